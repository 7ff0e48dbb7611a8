"""What the harness needs of the machine: root, Debian's packages, and a kernel with overlays."""

import os
import shutil
import subprocess
from pathlib import Path

COMMANDS = {
    "dockerd": "docker.io",
    "docker": "docker-cli",  # before Debian 13 a part of docker.io
    "iptables": "iptables",
    "ip": "iproute2",
    "curl": "curl",
    "debootstrap": "debootstrap",
    "nsenter": "util-linux",
}


def unfit() -> str | None:
    """Say why this machine cannot run the tests, if so."""
    if os.geteuid() != 0:
        return "an engine in namespaces of its own needs root"
    if not Path("/etc/debian_version").exists():
        return "the harness installs Debian packages, and this is not a Debian"
    return None


def missing() -> list[str]:
    """Packages whose command is not on PATH."""
    return [package for command, package in COMMANDS.items() if shutil.which(command) is None]


def install() -> None:
    """Install what is missing, without starting the engine of the package.

    RUNLEVEL=1 keeps invoke-rc.d from starting services; with systemd a system engine may start, which
    does not disturb (ours has namespaces of its own).
    """
    wanted = missing()
    if not wanted:
        return
    if "docker.io" in wanted and "docker-cli" in wanted:
        wanted.remove("docker-cli")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    print("e2e: installing", *wanted, flush=True)
    apt = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    if (
        subprocess.run(
            [*apt, *wanted], env=env, stdin=subprocess.DEVNULL, timeout=600, check=False
        ).returncode
        != 0
    ):
        subprocess.run(["apt-get", "update", "-qq"], env=env, check=True, timeout=300)
        subprocess.run([*apt, *wanted], env=env, stdin=subprocess.DEVNULL, check=True, timeout=600)
    if shutil.which("docker") is None:
        subprocess.run([*apt, "docker-cli"], env=env, stdin=subprocess.DEVNULL, check=True, timeout=600)
