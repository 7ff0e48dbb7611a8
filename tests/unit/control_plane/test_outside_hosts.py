"""The control plane looks up hosts outside for sidecars under whose alias the host's own name is."""

import asyncio
from dataclasses import replace

from control_plane.discovery import outside
from control_plane.discovery.outside import OutsideHosts
from control_plane.discovery.view import View
from meshpy.compile import compile_mesh
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import EgressHost, Inventory, Service
from meshpy.model.names import ServiceName
from meshpy.policy import PolicySet
from meshpy.wire import decode_snapshot, encode

API = ServiceName("shop", "api")
CLUSTER = "outbound|443||api.test"


def view(*hosts: str, exempt: str = "") -> View:
    egress = tuple(EgressHost(host, 443, Protocol.TLS) for host in hosts)
    return View(Inventory({API: Service(API, egress=egress, exempt=exempt)}))


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a round has no event of its own
            await asyncio.sleep(0.005)


async def test_addresses_come_with_the_next_view_and_stay_when_nobody_answers(monkeypatch):
    monkeypatch.setattr(outside, "EVERY_S", 0.02)
    answers: dict[str, list[str]] = {
        "api.test": ["203.0.113.9", "203.0.113.10", "127.0.0.1", "169.254.169.254"]
    }
    seen: list[View] = []

    def look_up(host: str) -> list[str]:
        if host not in answers:
            raise OSError("no such name")
        return answers[host]

    def known() -> dict[str, tuple[str, ...]]:
        return dict(seen[-1].inventory.services[API].outside)

    hosts = OutsideHosts(seen.append, look_up)
    running = asyncio.get_running_loop().create_task(hosts.run())
    try:
        hosts.take(view("API.test", "none.test"))
        assert known() == {}
        await until(known)
        assert known() == {"api.test": ("203.0.113.9", "203.0.113.10")}
        count = len(seen)
        await asyncio.sleep(0.1)
        assert len(seen) == count  # nothing new, nothing told
        answers["api.test"] = ["203.0.113.11"]
        await until(lambda: known()["api.test"] == ("203.0.113.11",))
        del answers["api.test"]
        await asyncio.sleep(0.1)
        hosts.take(view("api.test"))
        assert known() == {"api.test": ("203.0.113.11",)}
        hosts.take(view("api.test", exempt="it mounts the Docker socket"))
        assert known() == {}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_they_travel_with_the_cluster_that_is_looked_up_by_name():
    inventory = view("api.test").inventory
    service = replace(inventory.services[API], outside={"api.test": ("203.0.113.9",)})
    for found in (inventory, Inventory({API: service})):
        [snapshot] = compile_mesh(found, PolicySet(), trust_domain="mesh.test", revision=1).values()
        cluster = decode_snapshot(encode(snapshot)).clusters[CLUSTER]
        assert (cluster.dns, cluster.dns_port) == ("api.test", 443)
        told = [(each.address, each.port) for each in cluster.endpoints]
        assert told == ([] if found is inventory else [("203.0.113.9", 443)])
