"""Inside the namespaces: mounts, a Docker engine, a one-node Swarm, images, the outside world, pytest.

Started by harness.py as (nearly) the first process; when it ends, the kernel ends everything here.
The engine in the package's place: `docker` and `dockerd` are those of PATH (a 28.2 client with a 20.10
engine works, as does Debian's own pair), its socket is /run/docker.sock of this mount namespace.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e import images, world

SOCKET = "unix:///run/docker.sock"
START_S = 60


def run(*command: str, timeout_s: float = 60) -> str:
    """Run to success and return what was printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def prepare_mounts(state: Path) -> None:
    """A /run of its own (sockets, netns names, locks) and a /sys that shows this network namespace.

    The cgroup mounts below /sys survive by being bound aside and back.
    """
    run("mount", "--make-rprivate", "/")
    aside = state / "cgroup"
    aside.mkdir()
    run("mount", "--rbind", "/sys/fs/cgroup", str(aside))
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("mount", "--rbind", str(aside), "/sys/fs/cgroup")
    run("umount", "--lazy", str(aside))
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    Path("/run/lock").mkdir()
    resolver = state / "resolv.conf"
    resolver.write_text(f"nameserver {world.OUTSIDE}\noptions timeout:1 attempts:1\n")
    run("mount", "--bind", str(resolver), str(Path("/etc/resolv.conf").resolve()))
    run("hostname", "node-1")


def choose_iptables(state: Path) -> None:
    """Put the variant of iptables that this kernel supports first on PATH; Docker needs nat and addrtype."""
    probe = ["-w", "-t", "nat", "-A", "OUTPUT", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "RETURN"]
    for variant in ("iptables", "iptables-legacy", "iptables-nft"):
        found = shutil.which(variant)
        if (
            found
            and subprocess.run([found, *probe], capture_output=True, timeout=30, check=False).returncode == 0
        ):
            run(found, "-w", "-t", "nat", "-F", "OUTPUT")
            folder = state / "bin"
            folder.mkdir()
            for name in ("iptables", "ip6tables"):
                (folder / name).symlink_to(found.replace("iptables", name))
            os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
            return
    raise RuntimeError("no variant of iptables works on this kernel (nat table, addrtype match)")


def start_dockerd(state: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the engine, with its own containerd, and wait until it answers."""
    config = state / "daemon.json"
    settings = {
        "data-root": str(state / "docker"),
        "cgroup-parent": f"/{os.environ['MESHPY_E2E_CGROUP']}",
        "hosts": [SOCKET],
        "ipv6": False,
    }
    config.write_text(json.dumps(settings))
    with log.open("wb") as output:
        dockerd = subprocess.Popen(["dockerd", "--config-file", str(config)], stdout=output, stderr=output)
    deadline = time.monotonic() + START_S
    while subprocess.run(["docker", "version"], capture_output=True, timeout=30, check=False).returncode != 0:
        if dockerd.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("dockerd does not answer")
        time.sleep(0.2)
    return dockerd


def stop(dockerd: subprocess.Popen[bytes]) -> None:
    """Leave the Swarm politely, so that no cgroup of a task is left; then end the engine by its pid."""
    subprocess.run(["docker", "swarm", "leave", "--force"], capture_output=True, timeout=60, check=False)
    dockerd.terminate()
    try:
        dockerd.wait(timeout=30)
    except subprocess.TimeoutExpired:
        dockerd.kill()


def show_complaints(log: Path) -> None:
    """Print the last warnings and errors of the engine."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if "level=info" not in line]
    print(f"e2e: last complaints in {log}:", *lines[-25:], sep="\n", flush=True)


def command_for(arguments: list[str]) -> list[str]:
    """`--shell` gives a shell beside the engine, anything else goes to pytest."""
    if arguments == ["--shell"]:
        return [os.environ.get("SHELL", "/bin/sh")]
    return [sys.executable, "-m", "pytest", "tests/e2e", "-m", "docker", *arguments]


def main(arguments: list[str]) -> int:
    """Bring everything up, run, take it down; a failure prints the end of the engine's log."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    state, log = Path(os.environ["MESHPY_E2E_STATE"]), Path(os.environ["MESHPY_E2E_LOG"])
    os.environ |= {"DOCKER_HOST": SOCKET, "DOCKER_CONFIG": str(state / "client"), "DOCKER_CONTEXT": "default"}
    begun = time.monotonic()
    dockerd = None
    code = 1
    try:
        prepare_mounts(state)
        choose_iptables(state)
        world.connect(state)
        dockerd = start_dockerd(state, log)
        run("docker", "swarm", "init", "--advertise-addr", world.NODE)
        images.build(["docker"])
        print(f"e2e: engine and images ready after {time.monotonic() - begun:.1f} s", flush=True)
        os.environ |= {"MESHPY_E2E_DOCKER_HOST": SOCKET, "MESHPY_E2E_SEEN": str(state / "outside.jsonl")}
        code = subprocess.run(command_for(arguments), check=False).returncode
    except KeyboardInterrupt:
        code = 130
    finally:
        if code not in {0, 130} and log.exists():
            show_complaints(log)
        if dockerd is not None:
            stop(dockerd)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
