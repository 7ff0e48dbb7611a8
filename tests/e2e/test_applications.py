"""Public applications, as their stack files have them: they work without the mesh and within it.

Each is deployed as it stands and used, moved into the mesh permissively and used, then strictly and used;
nothing is lost. `apps/stacks` says whose shape each file has; the programs are Debian's (programs.py).
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e import exercises, programs
from tests.e2e.exercises import Site
from tests.e2e.node import Node, run
from tests.helpers.mesh import INJECT, Mesh
from tests.helpers.stacks import on_this_kernel

pytestmark = pytest.mark.docker

SLOW_S = 180
LABELS = {
    "node-1": ("db=1", "broker=1", "role=database"),
    "node-2": ("app=1", "role=backend"),
    "node-3": ("app=1", "role=frontend"),
}
SECRETS = {
    "db_password": "hunter2",
    "mysql-root-password": "root",
    "mysql-fleetdm-password": "fleet",
    "fleetdm-jwt-key": "jwt",
}
NEWS = {
    "POSTGRES_USER": "news",
    "POSTGRES_PASSWORD": "news",
    "POSTGRES_DB": "news",
    "REDIS_PASSWORD": "secret",
    "DATABASE_URL": "postgresql://news:news@db:5432/news",
}
AT_A_TIME = 3


@dataclass(frozen=True)
class Application:
    """A stack file, what it does not say of its ports, and who must be seen to call whom."""

    stack: str
    use: Callable[[Site], int]
    edges: frozenset[tuple[str, str]]
    assume: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    exempt: frozenset[str] = frozenset()


def edges(*words: str) -> frozenset[tuple[str, str]]:
    """`a>b` as pairs."""
    return frozenset((word.partition(">")[0], word.partition(">")[2]) for word in words)


PROCESSORS = ("names_processor", "dists_processor", "candidate_correlator", "cdc")
APPLICATIONS = [
    Application(
        "vote",
        exercises.vote,
        edges("vote>redis", "worker>redis", "worker>db", "result>db"),
        {"worker": ""},
        exempt=frozenset({"visualizer"}),
    ),
    Application(
        "coins",
        exercises.coins,
        edges("worker>rng", "worker>hasher", "worker>redis", "webui>redis"),
        {"rng": "80/http", "hasher": "80/http", "worker": ""},
    ),
    Application(
        "graph",
        exercises.graph,
        edges(
            *(f"{name}>{what}" for name in PROCESSORS for what in ("db", "broker")), "cdc_requirements>broker"
        ),
        dict.fromkeys((*PROCESSORS, "cdc_requirements", "pypi_loader"), ""),
    ),
    Application("quiz-stack", exercises.quiz, edges("frontend>backend", "backend>database")),
    Application(
        "secure", exercises.secure, edges("reverse>api", "api>db"), {"api": "5000/http", "monitor": ""}
    ),
    Application(
        "fleet",
        exercises.fleet,
        edges("nginx>fleet", "fleet>mysql", "fleet>redis"),
        {"fleet": "8080/tls"},
    ),
    Application(
        "news",
        exercises.news,
        edges("app>db", "app>redis", "celery>redis"),
        {"migrations": ""},
        NEWS,
        exempt=frozenset({"traefik"}),
    ),
    Application("laravel", exercises.laravel, edges("nginx>php")),
    Application("watch", exercises.watch, edges(), exempt=frozenset({"node-exporter", "prometheus"})),
]


IN_SHORT = {"vote", "graph", "quiz-stack", "secure", "fleet", "laravel"}
IS_LONG = os.environ.get("MESHPY_E2E_LONG") == "1"
CHOSEN = [each for each in APPLICATIONS if IS_LONG or each.stack in IN_SHORT]


@pytest.fixture(scope="module")
def ground(mesh: Mesh, nodes: dict[str, Node], tmp_path_factory: pytest.TempPathFactory):
    """The images on every node, node labels, secrets that the files call external, and the files' folder."""
    engine, tarball = mesh.engine, os.environ["MESHPY_E2E_APPS"]
    hosts = [engine.host, *(node.socket for node in nodes.values())]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: programs.build(["docker", "-H", host], tarball), hosts))
    change = ("--change", 'ENTRYPOINT ["/traefik"]')
    engine.docker("import", *change, os.environ["MESHPY_E2E_TRAEFIK"], "traefik:v3.3.4", timeout_s=300)
    for node, labels in LABELS.items():
        words = [word for label in labels for word in ("--label-add", label)]
        engine.docker("node", "update", *words, node)
    for name, text in SECRETS.items():
        engine.docker("secret", "create", name, "-", stdin=text)
    folder = tmp_path_factory.mktemp("stacks")
    shutil.copytree(programs.FOLDER / "stacks", folder, dirs_exist_ok=True)
    make_certificate(folder / "fleet")
    for each in APPLICATIONS:
        engine.env.update(each.environment)
        mesh.env.update(each.environment)
    return mesh, folder


def make_certificate(folder: Path) -> None:
    """What the operator of `fleet` would bring along."""
    names = ("-subj", "/CN=fleet", "-addext", "subjectAltName=DNS:fleet")
    files = ("-keyout", str(folder / "fleet.key"), "-out", str(folder / "fleet.crt"))
    run(
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        *names,
        *files,
    )


def seen_edges(mesh: Mesh, stack: str) -> dict[tuple[str, str], float]:
    """Who called whom within a stack, and how much of it by mTLS."""
    return {
        (source.partition("/")[2], destination.partition("/")[2]): each["mtls_ratio"]
        for each in mesh.status()["edges"]
        if (source := each["source"]).startswith(f"{stack}/")
        and (destination := each["destination"]).startswith(f"{stack}/")
    }


def missing_in(found: dict, wanted: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges that are not seen yet."""
    return set(wanted) - set(found)


def run_through(mesh: Mesh, folder: Path, application: Application) -> str:
    """Use it before, halfway and after; nothing may fail or be lost, and every call is mTLS in the end.

    Returns:
        What the injector and the deployment said, and the counts.
    """
    engine, stack = mesh.engine, application.stack
    site, file = Site(engine, stack, folder), folder / f"{stack}.yml"
    asked = mesh.run("inject", *INJECT, "--stack", stack, str(file))
    assert (asked.code != 0) == bool(application.assume), asked.err
    assert all(f"`{service}`" in asked.err for service in application.assume), asked.err
    file.write_text(on_this_kernel(file.read_text()))
    engine.docker("stack", "deploy", "--resolve-image", "never", "-c", file.name, stack, cwd=folder)
    engine.wait_stack(stack, SLOW_S)
    operations = [application.use(site)]
    assume = [word for name, ports in application.assume.items() for word in ("--assume", f"{name}={ports}")]
    said = [asked.err]
    for step in (["--permissive"], []):
        done = mesh.run("deploy", *INJECT, *step, *assume, "-c", str(file), stack, timeout_s=500)
        said.append(done.err)
        assert done.code == 0, "\n".join(said)
        operations.append(application.use(site))
    engine.wait("every edge is seen", lambda: not missing_in(seen_edges(mesh, stack), application.edges), 30)
    found = seen_edges(mesh, stack)
    exempt = {each["name"].partition("/")[2] for each in mesh.status()["services"] if each["exempt"]}
    inside = {pair: ratio for pair, ratio in found.items() if not exempt & set(pair)}
    assert set(inside.values()) <= {1.0}, inside
    assert application.exempt <= exempt
    said.append(json.dumps({"stack": stack, "operations": operations, "edges": len(found)}))
    return "\n".join(said)


@pytest.fixture(scope="module")
def runs(ground):
    """All of them, some at a time: most of each is waiting for tasks to come and go."""
    mesh, folder = ground

    def one(application: Application) -> str:
        try:
            return run_through(mesh, folder, application)
        finally:
            mesh.engine.remove(application.stack, SLOW_S)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {each.stack: pool.submit(one, each) for each in CHOSEN}


@pytest.mark.parametrize("stack", [each.stack for each in CHOSEN])
def test_a_public_application_works_within_the_mesh_as_without(runs: dict[str, Future[str]], stack: str):
    """Nothing fails, what was stored is kept, every call between services of the mesh is mTLS."""
    print(runs[stack].result(timeout=900))
