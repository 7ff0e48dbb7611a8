"""Newer Docker engines from Debian's newer suites, without touching the machine's own packages.

`MESHPY_E2E_ENGINE` is a suite (`trixie`: 26.1, `sid`: 28.5), `newest` for the newest of them that can be had
and runs here, or a folder with `dockerd`, `containerd`, their helpers and `docker`. The machine's own runc
stays: newer ones need a newer C library.
"""

import os
import shutil
import subprocess
from pathlib import Path

SUITES = ("bookworm-backports", "trixie", "forky", "sid")
PACKAGES = ("docker.io", "docker-cli", "containerd")
MIRROR = "http://deb.debian.org/debian"
PROGRAMS = ("dockerd", "docker-proxy", "docker", "containerd", "containerd-shim-runc-v2", "ctr")


class UnobtainableError(Exception):
    """No newer engine can be had on this machine now."""


def chosen(cache: Path) -> Path | None:
    """The folder of the engine that was asked for; None: the one on PATH."""
    wanted = os.environ.get("MESHPY_E2E_ENGINE", "")
    if not wanted:
        return None
    if wanted == "newest":
        return newest(cache)
    if wanted in SUITES:
        return fetched(wanted, cache)
    folder = Path(wanted).resolve()
    if not (folder / "dockerd").exists():
        raise SystemExit(f"MESHPY_E2E_ENGINE: {wanted} is no suite of {SUITES}, nor a folder with a dockerd")
    return folder


def newest(cache: Path) -> Path:
    """The newest engine that can be had here.

    Raises:
        UnobtainableError: none of the suites' engines; the message says why of each.
    """
    reasons = []
    for suite in reversed(SUITES):
        try:
            folder = fetched(suite, cache)
            told = subprocess.run(
                [folder / "dockerd", "--version"], capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            reasons.append(f"{suite}: {error}")
            continue
        print(f"e2e: {told.stdout.strip()}, of Debian {suite}", flush=True)
        return folder
    raise UnobtainableError("no newer engine: " + "; ".join(reasons))


def fetched(suite: str, cache: Path) -> Path:
    """The programs of a suite's engine, fetched once by an apt that has lists and caches of its own."""
    folder = cache / f"engine-{suite}"
    if folder.exists():
        return folder
    print(f"e2e: fetching the engine of Debian {suite}, once", flush=True)
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in ("lists/partial", "archives/partial", "debs", "root", "bin"):
        (partial / name).mkdir(parents=True)
    (partial / "sources.list").write_text(f"deb {MIRROR} {suite} main\n")
    settings = {
        "Dir::Etc::sourcelist": partial / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": partial / "lists",
        "Dir::Cache": partial,
        "APT::Sandbox::User": "root",
    }
    config = partial / "apt.conf"
    config.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    env = os.environ | {"APT_CONFIG": str(config)}
    for words in (["update"], ["download", *(f"{name}/{suite}" for name in PACKAGES)]):
        command = ["apt-get", "-qq", *words]
        subprocess.run(command, env=env, cwd=partial / "debs", check=True, timeout=600)
    for package in (partial / "debs").glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(partial / "root")], check=True, timeout=120)
    for program in (partial / "root/usr").glob("*bin/*"):
        if program.name in PROGRAMS:
            program.rename(partial / "bin" / program.name)
    (partial / "bin").rename(folder)
    shutil.rmtree(partial)
    return folder
