"""A fresh clone in an empty container: how long `make demo` takes to a live dashboard, and more.

`python -m tests.fresh` (root, Debian): a Debian with Python and make alone, without a network; the packages
of the lock lie in a folder, as a warm cache. Prints JSON; exits with 1 when it takes longer than two minutes.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e import images, packages

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build/e2e/cache"
DEBIAN = ("python3", "python3-venv", "make", "ca-certificates")
WANTED_S = 120.0
# Runs in the container, by its own Python; nothing but the standard library is there yet.
INSIDE = r"""
import json, os, re, signal, subprocess, sys, time, urllib.request
sys.path.insert(0, os.getcwd())
from tests.helpers.walk import follow, steps_of

def get(url, token=""):
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + token} if token else {})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read().decode()

def unread():
    try:
        return os.read(demo.stdout.fileno(), 1 << 16).decode(errors="replace")
    except BlockingIOError:
        return ""

begun = time.monotonic()
demo = subprocess.Popen(["make", "demo"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                        start_new_session=True, env=os.environ | {"TERM": "dumb"})
said, token = "", None
while token is None:
    line = demo.stdout.readline()
    assert line, said
    said += line
    token = re.search(r"dashboard: (http://[^/]+)/dashboard/#token=(\S+)", said)
url, secret = token[1], token[2]
os.set_blocking(demo.stdout.fileno(), False)
while True:
    try:
        page = get(url + "/dashboard/")
        edges = json.loads(get(url + "/v1/status", secret))["edges"]
        if "<script" in page and sum(edge["rps"] for edge in edges) > 10:
            break
    except OSError:
        pass
    said += unread()  # and so it is never blocked by what nobody reads
    assert demo.poll() is None and time.monotonic() - begun < 600, said
    time.sleep(0.2)
live_s = time.monotonic() - begun
env = os.environ | {"MESHPY_URL": url, "MESHPY_TOKEN": secret}
told = [follow(step, os.getcwd(), env) for step in steps_of(open("docs/quick-start.md").read())
        if step.name == "demo: beside"]
for _ in range(25):
    said += unread()
    time.sleep(0.2)
edges = json.loads(get(url + "/v1/status", secret))["edges"]
os.killpg(demo.pid, signal.SIGINT)
while demo.poll() is None:
    unread()
    time.sleep(0.1)
print(json.dumps({"live_s": round(live_s, 1), "beside": told, "edges": [
    [e["source"], e["destination"], round(e["rps"], 1), round(e["success_ratio"], 3)] for e in edges]}))
"""


def tree_of(folder: Path) -> None:
    """A Debian with DEBIAN; its tarball is made once."""
    name = hashlib.sha256(" ".join((images.SUITE, *DEBIAN)).encode()).hexdigest()[:12]
    tarball = CACHE / f"fresh-{name}.tar"
    if not tarball.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made, partial = CACHE / f"fresh-{name}.tree", tarball.with_suffix(".partial")
        shutil.rmtree(made, ignore_errors=True)
        wanted = [
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(DEBIAN)}",
            images.SUITE,
            str(made),
        ]
        subprocess.run(wanted, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=900)
        subprocess.run(["tar", "-C", str(made), "-cf", str(partial), "."], check=True, timeout=300)
        shutil.rmtree(made)
        partial.rename(tarball)
    subprocess.run(["tar", "-C", str(folder), "-xf", str(tarball)], check=True, timeout=300)


def wheels() -> Path:
    """The packages of the developers' lock, for the container's Python; fetched once."""
    lock = ROOT / "requirements/dev.txt"
    folder = CACHE / f"fresh-wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        images.fetch("download", lock, "-d", str(partial))
        partial.rename(folder)
    return folder


def measure(folder: Path) -> dict:
    """Clone, and do as a newcomer does; everything that it starts ends with it."""
    tree_of(folder)
    clone = folder / "root/meshpy"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{ROOT}", str(clone)], check=True, timeout=60)
    shutil.copytree(wheels(), folder / "wheels")
    (folder / "inside.py").write_text(INSIDE)
    script = (
        "ip link set lo up; mount -t proc proc $0/proc; mount --rbind /dev $0/dev; "
        "exec chroot $0 /usr/bin/env -i HOME=/root PATH=/usr/bin:/bin LC_ALL=C.UTF-8 "
        "PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels sh -c 'cd /root/meshpy && python3 /inside.py'"
    )
    walls = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        [*walls, "sh", "-c", script, str(folder)], capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print what was seen."""
    if reason := packages.unfit():
        raise SystemExit(f"skipped: {reason}")
    packages.install()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        told = measure(Path(folder))
    print(
        json.dumps(
            {**told, "with_container_s": round(time.monotonic() - begun, 1), "cores": os.cpu_count()},
            indent=1,
        )
    )
    sys.exit(told["live_s"] > WANTED_S)


if __name__ == "__main__":
    main()
