"""Outside the namespaces: what the machine must have, the caches, and the walls around the engine.

Everything that the engine makes lives in namespaces of its own (network, mounts, processes, hostname):
no bridge, firewall rule, mount or process of it is seen on the machine, and the kernel removes all of
them when the first process of the namespaces ends, however that happened. What remains are cgroups and
files; `main` removes both.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.e2e import engines, images, packages, programs

BUILD = Path("build/e2e").resolve()
ENDING_S = 20.0  # until the kernel has ended what was killed
HALVES = ("shop", "others")  # `--half` in conftest.py
NOTHING_TO_DO = 5  # of pytest: of this half nothing has failed
CHILDREN: list[subprocess.Popen[str]] = []
FAILURES: list[str] = []  # lines of pytest's summaries


def refuse(reason: str) -> int:
    """A machine that cannot run an engine skips; CI must not."""
    if os.environ.get("CI") == "true":
        print(f"e2e: failed: {reason}", file=sys.stderr)
        return 1
    print(f"e2e: skipped: {reason}")
    return 0


def remove_cgroups(name: str) -> None:
    """Remove the cgroup trees of one run, deepest first, on cgroup v1 and v2, as their processes end."""
    deadline = time.monotonic() + ENDING_S
    for top in Path("/sys/fs/cgroup").glob(f"**/{name}"):
        for folder, _, _ in os.walk(top, topdown=False):
            while True:
                try:
                    Path(folder).rmdir()
                except OSError as error:
                    if error.errno != errno.EBUSY or time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
                else:
                    break


def walled(command: list[str]) -> list[str]:
    """`command` as second process of new namespaces; tini is the first and reaps orphaned shims.

    If this process dies, so does unshare (parent-death signal), and with it (--kill-child) all the rest.
    """
    init = shutil.which("docker-init") or shutil.which("tini")
    assert init is not None, "docker.io brings an init"
    namespaces = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, init, "--", *command]


def run_walled(command: list[str], env: dict[str, str], half: str = "") -> int:
    """Run to the end; Ctrl-C reaches the inside through the terminal, SIGTERM is passed on.

    Of a half, each line that it prints carries its name, and what failed is kept for the end.
    """
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} if half else {}
    child = subprocess.Popen(walled(command), env=env, **piped)
    CHILDREN.append(child)
    for line in child.stdout or ():
        print(f"{half:6} | {line}", end="", flush=True)
        if line.startswith(("FAILED ", "ERROR ")):
            FAILURES.append(line)
    return child.wait()


def clear(state: Path) -> None:
    """Remove what a run leaves outside of its namespaces."""
    remove_cgroups(f"meshpy-{state.name}")
    shutil.rmtree(state)


def clear_orphans() -> None:
    """Clear the runs whose process was killed before it could: the name of a state carries its pid."""
    for state in BUILD.glob("state-*"):
        if not Path("/proc", state.name.split("-")[1]).exists():
            clear(state)


def fetch() -> None:
    """Have what is made once on a machine: packages, trees of Debian, programs. The inside is told where.

    Raises:
        UnobtainableError: no newer engine, where one is asked for.
    """
    packages.install()
    rootfs = images.rootfs(BUILD / "cache")
    os.environ |= {
        "MESHPY_E2E_ROOTFS": str(rootfs),
        "MESHPY_E2E_TRAEFIK": str(images.traefik(BUILD / "cache")),
        "MESHPY_E2E_GRPC": str(images.grpc_library(BUILD / "cache")),
        "MESHPY_E2E_APPS": str(programs.tree(BUILD / "cache", rootfs)),
    }
    if (engine := engines.chosen(BUILD / "cache")) is not None:
        os.environ["PATH"] = f"{engine}:{os.environ['PATH']}"


def main(arguments: list[str]) -> int:
    """Prepare, run, clean up; the exit code is that of pytest. `--fetch` only prepares."""
    if reason := packages.unfit():
        return refuse(reason)
    is_all = arguments != ["--fetch"]
    compiling = images.compiling() if is_all else None
    try:
        fetch()
    except engines.UnobtainableError as reason:
        print(f"e2e: skipped: {reason}")
        return 0
    if not is_all:
        return 0
    if compiling is not None:
        compiling.wait(900)
    images.wheelhouse(Path("build/wheelhouse"), BUILD / "cache")
    clear_orphans()
    signal.signal(signal.SIGINT, lambda *_: None)  # one that is ignored would be ignored inside, too
    signal.signal(signal.SIGTERM, lambda *_: [child.kill() for child in CHILDREN])
    if arguments[:1] != ["--both"]:
        return run_engine(arguments)
    with ThreadPoolExecutor() as pool:
        codes = list(pool.map(partial(run_engine, arguments[1:]), HALVES))
    print("".join(FAILURES), end="", flush=True)
    return max((code for code in codes if code != NOTHING_TO_DO), default=NOTHING_TO_DO)


def run_engine(arguments: list[str], half: str = "") -> int:
    """Run the tests, or a half of them, on an engine of their own, and leave nothing of it."""
    state = Path(tempfile.mkdtemp(prefix=f"state-{os.getpid()}-", dir=BUILD))
    env = os.environ | {
        "MESHPY_E2E_STATE": str(state),
        "MESHPY_E2E_LOG": str(BUILD / f"dockerd{half and '-' + half}.log"),
        "MESHPY_E2E_CGROUP": f"meshpy-{state.name}",
    }
    if half:
        arguments = [f"--half={half}", "-o", f"cache_dir=.pytest_cache/{half}", *arguments]
    try:
        code = run_walled([sys.executable, "-m", "tests.e2e.engine", *arguments], env, half)
    finally:
        clear(state)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
