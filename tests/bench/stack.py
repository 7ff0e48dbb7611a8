"""What an operator waits for and pays: `python -m tests.bench.stack`.

Prints the time to inject a stack of 34 services. With an engine that has a mesh (`meshpy install`) and the
images, also: size and make of the sidecar's image, whether it is built the same twice (`--rebuild BASE`),
and, of real sidecar tasks, the time from the start of the container to a sidecar in sync, and its memory.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime

from meshpy.client import ApiError, Context, Operator
from meshpy.inject import InjectOptions, inject

SERVICES = 34
RUNS = 5
STACK = "benchmarked"
WAIT_S = 120.0


def stack(services: int) -> str:
    """A stack such as the largest public ones: half publish nothing, each calls two others."""
    lines = ['version: "3.8"', "services:"]
    for number in range(services):
        lines += [
            f"  service-{number}:",
            f"    image: registry.example.com/team/service-{number}:1.4",
            "    environment:",
            f"      UPSTREAM: http://service-{(number + 1) % services}:8080/v1   # kept",
            f"      CACHE: redis://service-{(number + 7) % services}:6379/0",
            *([f'    ports: ["{9000 + number}:8080"]'] if number % 2 else []),
            "    healthcheck: {test: [CMD, curl, -f, http://localhost:8080/healthz]}",
            "    deploy:",
            "      replicas: 2",
            f"      labels: [traefik.enable=true, meshpy.dependencies=service-{(number + 1) % services}]",
        ]
    return "\n".join(lines) + "\n"


def injection() -> str:
    text, options = stack(SERVICES), InjectOptions()
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        done = inject(text, stack="bench", options=options)
        times.append(time.perf_counter() - begin)
    size = f"{len(text) // 1024} KiB -> {len(done.text) // 1024} KiB"
    return f"inject {SERVICES} services ({size}): {statistics.median(times):.2f} s (median of {RUNS})"


def docker(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["docker", *words], input=stdin, capture_output=True, text=True, timeout=600, check=True
    )
    return done.stdout


def image(name: str) -> str:
    told = json.loads(docker("image", "inspect", name))[0]
    config = told["Config"]
    read_bill = ("run", "--rm", "--entrypoint", "cat", name, "/opt/meshpy/sbom.cdx.json")
    bill = json.loads(docker(*read_bill))
    labels = [key for key in config["Labels"] or {} if key.startswith("org.opencontainers.image.")]
    return (
        f"{name}: {told['Size'] / 1e6:.0f} MB, user {config['User']}, "
        f"healthcheck {' '.join(config['Healthcheck']['Test'])}, {len(labels)} OCI labels, "
        f"SBOM of {len(bill['components'])} packages"
    )


def files_of(name: str) -> str:
    """A hash over every file below /opt/meshpy: path, mode, time, content."""
    listed = "cd /opt/meshpy && find . -type f | LC_ALL=C sort"
    script = f"{listed} | xargs stat -c '%n %a %Y'; {listed} | xargs sha256sum"
    return hashlib.sha256(
        docker("run", "--rm", "--entrypoint", "sh", name, "-c", script).encode()
    ).hexdigest()[:16]


def rebuilt(base: str) -> str:
    hashes = []
    for number in (1, 2):
        tag = f"meshpy-proxy:again-{number}"
        words = ("--no-cache", "--network=none", f"--build-arg=BASE={base}", "-f", "images/proxy.Dockerfile")
        docker("build", "-q", *words, "-t", tag, ".")
        hashes.append(files_of(tag))
    verdict = "the same files" if hashes[0] == hashes[1] else "other files"
    return f"built twice from the wheelhouse: {verdict} {hashes}"


def sidecars(name: str) -> str:
    """Five sidecars, one after the other, of a stack that does nothing."""
    app = f'{{image: "{name}", entrypoint: [sleep, infinity], healthcheck: {{disable: true}}}}'
    text = f'version: "3.8"\nservices: {{idle: {app}}}\n'
    options = ("--endpoint-mode", "dnsrr", "--no-encrypt", "--image", name)
    command = [
        sys.executable,
        "-c",
        "from meshpy.cli.main import main; main()",
        "deploy",
        *options,
        "-c",
        "-",
        STACK,
    ]
    subprocess.run(command, input=text, text=True, check=True, capture_output=True, timeout=300)
    operator, starts, memory = Operator(Context.load()), [], [0.0]
    try:
        for replicas in range(2, RUNS + 2):
            known = in_sync(operator)
            docker("service", "scale", "--detach", f"{STACK}_idle-sidecar={replicas}")
            starts.append(started(operator, known))
        shown = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").splitlines()
        mine = [line for line in shown if line.startswith(f"{STACK}_idle-sidecar.")]
        memory = [float(line.split()[1].removesuffix("MiB")) for line in mine]
    finally:
        docker("stack", "rm", STACK)
    return (
        f"sidecar container: {statistics.median(starts):.1f} s from start to in sync "
        f"({min(starts):.1f} to {max(starts):.1f}), {statistics.median(memory):.0f} MiB"
    )


def in_sync(operator: Operator) -> set[str]:
    try:
        told = operator.call("GET", "/v1/status")["sidecars"]
    except ApiError:
        return set()
    return {each["task"] for each in told if each["service"] == f"{STACK}/idle" and each["state"] == "SYNCED"}


def started(operator: Operator, known: set[str]) -> float:
    """Seconds from the start of the newest container to its sidecar being in sync."""
    deadline = time.monotonic() + WAIT_S
    while not (new := in_sync(operator) - known):
        if time.monotonic() > deadline:
            raise TimeoutError("the sidecar does not come into sync")
        time.sleep(0.05)
    now = time.time()
    [ident] = docker(
        "ps", "-q", "--no-trunc", "--filter", f"label=com.docker.swarm.task.id={new.pop()}"
    ).split()
    text = docker("inspect", "--format", "{{.State.StartedAt}}", ident).strip()
    return now - datetime.fromisoformat(text[:26].rstrip("Z")).replace(tzinfo=UTC).timestamp()


def main() -> None:
    """Print what can be measured here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="meshpy-proxy:dev")
    parser.add_argument("--rebuild", metavar="BASE", help="build the image twice on this base and compare")
    args = parser.parse_args()
    print(injection(), flush=True)
    if subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False).returncode != 0:
        print("no engine here: images and sidecars were not looked at")
        return
    print(image(args.image), flush=True)
    if args.rebuild:
        print(rebuilt(args.rebuild), flush=True)
    print(sidecars(args.image))


if __name__ == "__main__":
    main()
