"""The programs that public stack files run, from Debian: a tree with all of them, and an image for each name.

No registry is reached. `apps/Dockerfile` makes of one tree what the stack files in `apps/stacks` call
`postgres:16-alpine`, `rabbitmq:3-management-alpine`, or by the name of somebody's own image.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.e2e.images import SUITE

FOLDER = Path(__file__).parent / "apps"
TREE = "apps:dev"
PACKAGES = (
    *("tini", "curl", "procps", "postgresql-15", "mariadb-server", "rabbitmq-server", "nginx-light"),
    *("php8.2-fpm", "nodejs", "node-express", "node-pg", "node-redis", "gunicorn", "python3-flask"),
    *("python3-psycopg2", "python3-pymysql", "python3-pika", "python3-redis", "python3-requests"),
    *("python3-yaml", "celery", "python3-celery", "python3-gevent"),
    *("prometheus", "prometheus-node-exporter", "prometheus-alertmanager"),
)
LEFT_OUT = (
    *("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/i18n/*", "usr/share/perl/*"),
    *("usr/share/javascript/*", "usr/share/nodejs/core-js*", "usr/share/nodejs/@babel", "usr/lib/file"),
    *("usr/share/nodejs/@types", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/libLLVM*"),
    *("usr/lib/x86_64-linux-gnu/libz3*", "usr/lib/postgresql/15/lib/bitcode", "usr/bin/promtool"),
    *("usr/bin/amtool", "usr/bin/aria_*", "usr/bin/myisam*", "usr/bin/mariadb-[b-hj-z]*"),
    *(
        "var/lib/mysql/*",
        "var/lib/postgresql/*/*",
        "var/lib/dpkg/info/*",
        "var/lib/apt/lists/*",
        "var/cache/*",
    ),
)
IMAGES = {
    "postgres:9.4": "postgres",
    "postgres:16-alpine": "postgres",
    "postgres:17-alpine": "postgres",
    "marcdroit/postgres:latest": "postgres",
    "mysql:8.0.27": "mysql",
    "redis:latest": "redis",
    "redis:alpine": "redis",
    "redis:7-alpine": "redis",
    "redis:6.2.6-alpine": "redis",
    "rabbitmq:3-management-alpine": "rabbitmq",
    "nginx:1.21.6-alpine": "nginx",
    "bretfisher/examplevotingapp_vote:latest": "vote",
    "bretfisher/examplevotingapp_worker:latest": "worker",
    "bretfisher/examplevotingapp_result:latest": "result",
    "bretfisher/visualizer:latest": "visualizer",
    "127.0.0.1:5000/rng:latest": "rng",
    "127.0.0.1:5000/hasher:latest": "hasher",
    "127.0.0.1:5000/worker:latest": "miner",
    "127.0.0.1:5000/webui:latest": "webui",
    "rpi-cluster-4b-1gb-1:5000/pypi_scraper/app:1.0.2": "graph",
    "marcdroit/quiz-frontend:latest": "quiz-frontend",
    "marcdroit/quiz-backend:latest": "quiz-backend",
    "secure-microservices-swarm-reverse:latest": "reverse",
    "secure-microservices-swarm-api:latest": "api",
    "secure-microservices-swarm-monitor:latest": "monitor",
    "fleetdm/fleet:v4.11.0": "fleet",
    "adam424/news-analyzer:prod": "news",
    "999999999999.dkr.ecr.us-east-1.amazonaws.com/laravel:nginx": "php-front",
    "999999999999.dkr.ecr.us-east-1.amazonaws.com/laravel:php": "php",
    "prom/prometheus:latest": "prometheus",
    "prom/node-exporter:latest": "node-exporter",
    "prom/alertmanager:latest": "alertmanager",
}


def tree(cache: Path, rootfs: Path) -> Path:
    """Return a tarball of `rootfs` with PACKAGES; made once (about two minutes)."""
    name = hashlib.sha256(" ".join((rootfs.name, *PACKAGES, *LEFT_OUT)).encode()).hexdigest()[:12]
    tarball = cache / f"apps-{SUITE}-{name}.tar"
    if tarball.exists():
        return tarball
    folder, partial = cache / f"{name}.tree", tarball.with_suffix(".partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    print("e2e: making the image of the applications, once", flush=True)
    subprocess.run(["tar", "-C", str(folder), "-xf", str(rootfs)], check=True, timeout=300)
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
    no_start = folder / "usr/sbin/policy-rc.d"
    no_start.write_text("#!/bin/sh\nexit 101\n")
    no_start.chmod(0o755)
    install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends " + " ".join(PACKAGES)
    command = ["chroot", str(folder), "/usr/bin/env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", install]
    with (cache.parent / "programs.log").open("wb") as log:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, timeout=1200)
    exclude = [f"--exclude=./{pattern}" for pattern in LEFT_OUT]
    subprocess.run(["tar", "-C", str(folder), *exclude, "-cf", str(partial), "."], check=True, timeout=600)
    shutil.rmtree(folder)
    return partial.rename(tarball)


def build(docker: list[str], tarball: str) -> None:
    """Have every image on one engine; steps that only set an entrypoint cost a fraction of a second."""

    env = os.environ | {"DOCKER_BUILDKIT": "0"}

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [*docker, *arguments], env=env, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"docker {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )

    run("import", tarball, TREE)
    targets: dict[str, str] = {}
    for image, target in IMAGES.items():
        if target in targets:
            run("tag", targets[target], image)
        else:
            run("build", "--network=none", "--target", target, "-t", image, str(FOLDER))
            targets[target] = image
