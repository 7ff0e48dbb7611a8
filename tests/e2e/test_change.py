"""What changes below the traffic, and the traffic that does not notice.

POST is the severe case: a request that may have reached the app is never sent twice, so nothing hides a loss;
and Redis counts, so that a doubled request shows as well. Each load lasts until the change is through.
"""

import json
from datetime import UTC, datetime

import pytest

from tests.helpers.mesh import STACK, Counted, Mesh

pytestmark = pytest.mark.docker

API = f"{STACK}_api"
SIDECAR = f"{STACK}_api-sidecar"
CONTROL_PLANE = "mesh-system_control-plane"
ORDER = ("POST", "http://api:8080/orders", '{"id": 2}')
SLOW_S = 120


def orders(mesh: Mesh) -> int:
    """How many orders Redis holds."""
    return int(mesh.engine.exec(mesh.app("redis"), "redis-cli", "LLEN", "orders").out)


def assert_none_lost(mesh: Mesh, before: int, counted: Counted) -> None:
    """Every request was answered with 201 and made one order."""
    print("sent:", counted.total, "answers:", counted.counts)
    assert counted.total > 200
    assert counted.counts == {"201": counted.total}, counted.failures
    assert orders(mesh) == before + counted.total


def called(mesh: Mesh, service: str, direction: str, since: datetime) -> set[str]:
    """The addresses to which a service's sidecars sent requests since then."""
    lines = mesh.access_log(service, since)
    return {line["upstream_host"] for line in lines if line["direction"] == direction}


def scale(mesh: Mesh, service: str, count: int) -> None:
    """Scale, and wait until the new tasks run and the old containers have ended."""
    mesh.engine.docker("service", "scale", "--detach", f"{service}={count}")
    mesh.engine.wait_running(service, count, SLOW_S)
    mesh.engine.wait(f"{service} is {count}", lambda: len(mesh.engine.alive(service)) == count, SLOW_S)


@pytest.fixture
def api_of_one(shop: Mesh):
    """One replica before and after, whatever happens between."""
    yield shop
    scale(shop, API, 1)
    scale(shop, SIDECAR, 1)


def test_scaling_loses_no_request(api_of_one: Mesh):
    """api 1 → 3 → 1 under 50 orders per second: none fails, none is doubled, all three replicas served."""
    mesh, since = api_of_one, datetime.now(UTC)
    before = orders(mesh)
    with mesh.load(mesh.app("web"), *ORDER) as load:
        scale(mesh, API, 3)
        replicas = {f"{task.addresses[f'{STACK}_api-pod']}:8080" for task in mesh.engine.running(API)}
        mesh.engine.wait("all serve", lambda: replicas <= called(mesh, "api", "inbound", since), SLOW_S)
        scale(mesh, API, 1)
        counted = load.result()
    assert len(replicas) == 3
    assert_none_lost(mesh, before, counted)


def test_scaling_the_sidecars_loses_no_request(api_of_one: Mesh):
    """api's sidecar 1 → 3 → 1 under load: new ones are found, leaving ones drained."""
    mesh, since = api_of_one, datetime.now(UTC)
    before = orders(mesh)
    with mesh.load(mesh.app("web"), *ORDER) as load:
        scale(mesh, SIDECAR, 3)
        replicas = {f"{task.addresses['mesh']}:15443" for task in mesh.engine.running(SIDECAR)}
        mesh.engine.wait("all serve", lambda: replicas <= called(mesh, "web", "outbound", since), SLOW_S)
        scale(mesh, SIDECAR, 1)
        counted = load.result()
    assert len(replicas) == 3
    assert_none_lost(mesh, before, counted)


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_a_new_image_loses_no_request(api_of_one: Mesh, order: str):
    """`docker service update --image` of api (2 replicas, healthcheck) under load."""
    mesh, image = api_of_one, f"meshpy-shop:{order}"
    mesh.engine.docker("tag", "meshpy-shop:dev", image)
    scale(mesh, API, 2)
    old = {task.id for task in mesh.engine.running(API)}
    before = orders(mesh)
    words = ("--detach", "--no-resolve-image", "--update-order", order, "--image", image)

    def is_renewed() -> bool:
        alive = {task.id for task in mesh.engine.alive(API)}
        return len(mesh.engine.running(API)) == len(alive) == 2 and not alive & old

    with mesh.load(mesh.app("web"), *ORDER) as load:
        mesh.engine.docker("service", "update", *words, API)
        mesh.engine.wait(f"{API} is updated", is_renewed, SLOW_S)
        counted = load.result()
    used = mesh.engine.docker(
        "inspect", "--format", "{{.Config.Image}}", mesh.engine.running(API)[0].container
    )
    assert used.strip() == image
    assert_none_lost(mesh, before, counted)


def test_traffic_does_not_notice_that_the_control_plane_is_killed(shop: Mesh):
    """SIGKILL: nothing fails while it is away nor when it is back, and every sidecar is in sync again."""
    before, killed = orders(shop), shop.engine.task(CONTROL_PLANE)
    count = len(shop.status()["sidecars"])

    def is_back() -> bool:
        return any(task.id != killed.id for task in shop.engine.running(CONTROL_PLANE))

    def is_in_sync() -> bool:
        done = shop.run("status", "-o", "json")  # exit 0 says that every sidecar is in sync
        return done.code == 0 and len(json.loads(done.out)["sidecars"]) == count

    with shop.load(shop.app("web"), *ORDER) as load:
        shop.engine.docker("kill", "--signal", "KILL", killed.container)
        shop.engine.wait("another control plane", is_back, SLOW_S)
        shop.engine.wait("all sidecars in sync", is_in_sync, SLOW_S)
        counted = load.result()
    assert_none_lost(shop, before, counted)
