"""Inside the namespaces: mounts, a Docker engine, a one-node Swarm, images, the outside world, pytest.

Started by harness.py as (nearly) the first process; when it ends, the kernel ends everything here.
The engine in the package's place: `docker` and `dockerd` are those of PATH (a 28.2 client with a 20.10
engine works, as does Debian's own pair), its socket is /run/docker.sock of this mount namespace.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e import images, world
from tests.e2e.node import prepare_mounts, run, start_dockerd, wait_until_answers

SOCKET = "unix:///run/docker.sock"


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
        prepare_mounts(state / "node-1", "node-1")
        choose_iptables(state)
        world.connect(state)
        dockerd = start_dockerd(state / "node-1", SOCKET, log)
        wait_until_answers(dockerd, SOCKET)
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
