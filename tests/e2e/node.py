"""A Docker engine in namespaces of its own: the mounts it needs, its start, and further nodes of the Swarm.

`python -m tests.e2e.node HOSTNAME FOLDER SOCKET LOG` becomes the engine of a further node; `Node` starts it
in a network namespace that is plugged into the wire, and ends it.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e import world

START_S = 120
OWN_SOCKET = "unix:///run/docker.sock"
"""Where containers of the node find its engine; /run is the node's own."""
MEMORY_TO_SPARE = 12 * 2**30


def run(*command: str, timeout_s: float = 120) -> str:
    """Run to success and return what was printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def has_memory_to_spare() -> bool:
    """Whether images and containers may live in memory: no disk to wait for, nothing to delete afterwards."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    [available_kb] = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return available_kb * 1024 >= MEMORY_TO_SPARE


def prepare_mounts(folder: Path, hostname: str) -> None:
    """A /run of its own (sockets, netns names, locks) and a /sys that shows this network namespace.

    The cgroup mounts below /sys survive by being bound aside and back.
    """
    run("mount", "--make-rprivate", "/")
    folder.mkdir(parents=True, exist_ok=True)
    if has_memory_to_spare():
        run("mount", "-t", "tmpfs", "-o", "mode=711,size=50%", "tmpfs", str(folder))
    aside = folder / "cgroup"
    aside.mkdir()
    run("mount", "--rbind", "/sys/fs/cgroup", str(aside))
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("mount", "--rbind", str(aside), "/sys/fs/cgroup")
    run("umount", "--lazy", str(aside))
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    Path("/run/lock").mkdir()
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {world.OUTSIDE}\noptions timeout:1 attempts:1\n")
    run("mount", "--bind", str(resolver), str(Path("/etc/resolv.conf").resolve()))
    run("hostname", hostname)


def dockerd_command(folder: Path, socket: str, *more: str) -> list[str]:
    """The command line of an engine that keeps everything in `folder`, its containerd included."""
    config = folder / "daemon.json"
    settings = {
        "data-root": str(folder / "docker"),
        "cgroup-parent": f"/{os.environ['MESHPY_E2E_CGROUP']}",
        "hosts": sorted({socket, *more}),
        "ipv6": False,
    }
    config.write_text(json.dumps(settings))
    return ["dockerd", "--config-file", str(config)]


def start_dockerd(folder: Path, socket: str, log: Path) -> subprocess.Popen[bytes]:
    """Start an engine in the namespaces of this process."""
    with log.open("wb") as output:
        return subprocess.Popen(dockerd_command(folder, socket), stdout=output, stderr=output)


def wait_until_answers(dockerd: subprocess.Popen[bytes], socket: str) -> None:
    """Wait until an engine answers, or is seen to have ended."""
    deadline = time.monotonic() + START_S
    asked = ["docker", "-H", socket, "version"]
    while subprocess.run(asked, capture_output=True, timeout=30, check=False).returncode != 0:
        if dockerd.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("dockerd does not answer")
        time.sleep(0.2)


class Node:
    """Node `number` of the Swarm: a worker with the images that were named.

    Args:
        more: further sockets, as containers of the node find its engine.
    """

    def __init__(self, number: int, state: Path, log: Path, *more: str) -> None:
        self.name, self.address = f"node-{number}", f"192.0.2.{number}"
        self.folder = state / self.name
        self.socket = f"unix://{self.folder}.sock"
        world.ip("netns", "add", self.name)
        world.ip("-n", self.name, "link", "set", "lo", "up")
        world.plug(self.name, self.address, "-n", self.name)
        self.folder.mkdir()
        inner = [
            sys.executable,
            "-m",
            "tests.e2e.node",
            self.name,
            str(self.folder),
            self.socket,
            str(log),
            *more,
        ]
        within = ["nsenter", f"--net=/run/netns/{self.name}", "unshare", "--mount", "--uts"]
        self._process = subprocess.Popen([*within, *inner], start_new_session=True)

    def docker(self, *arguments: str, timeout_s: float = 300) -> str:
        """`docker …` on this node."""
        return run("docker", "-H", self.socket, *arguments, timeout_s=timeout_s)

    def join(self, token: str, tarball: Path) -> None:
        """Load the images and become a worker."""
        wait_until_answers(self._process, self.socket)
        self.docker("load", "--quiet", "--input", str(tarball))
        self.docker("swarm", "join", "--token", token, "--advertise-addr", self.address, f"{world.NODE}:2377")

    def set_link(self, state: str) -> None:
        """Pull the node's cable (`down`), or plug it in again (`up`)."""
        world.ip("-n", "wire", "link", "set", self.name, state)

    def end(self) -> None:
        """Leave the Swarm and stop."""
        subprocess.run(
            ["docker", "-H", self.socket, "swarm", "leave", "--force"],
            capture_output=True,
            timeout=120,
            check=False,
        )
        self._process.terminate()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=30)
        world.ip("netns", "del", self.name)
        shutil.rmtree(self.folder, ignore_errors=True)


def main(hostname: str, folder: Path, socket: str, log: Path, *more: str) -> None:
    """Become the engine."""
    prepare_mounts(folder, hostname)
    with log.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    command = dockerd_command(folder, socket, *more)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), *sys.argv[5:])
