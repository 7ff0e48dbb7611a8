"""Which endpoint a request goes to: affinity, locality, ejections, as clients and operators see them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace

import pytest

from meshpy.model.resilience import (
    ConsistentHash,
    HashBy,
    HashTable,
    LoadBalancing,
    Locality,
    OutlierDetection,
    Warmup,
)
from proxy.series import prometheus_text
from tests.helpers.backends import Received, backend, ok
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    Client,
    outbound_snapshot,
    plain_cluster,
    running,
)


@contextlib.asynccontextmanager
async def many(pki, count: int, node: str = "", nodes: tuple[str, ...] = (), localities=None, **cluster):
    """A caller before `count` applications, each of which answers with its number."""
    async with contextlib.AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(backend(ok(b"%d" % number))) for number in range(count)]
        made = plain_cluster(*(app.port for app in apps), name="c", **cluster)
        if nodes:
            placed = zip(made.endpoints, nodes, strict=True)
            made = replace(made, endpoints=tuple(replace(end, node=where) for end, where in placed))
        port = free_port()
        snapshot = replace(outbound_snapshot(port, {"c": made}), localities=localities or {})
        sidecar = await stack.enter_async_context(running(snapshot, pki, node=node))
        client = await stack.enter_async_context(await Client.connect(port))
        yield client, apps, sidecar


@pytest.mark.parametrize("table", list(HashTable))
async def test_requests_with_one_header_value_go_to_one_endpoint(pki, table):
    affinity = ConsistentHash(HashBy.HEADER, "x-user", table=table, size=1009)
    async with many(pki, 4, affinity=affinity) as (client, _, _sidecar):
        homes = {}
        for user in range(20):
            bodies = {(await client.get("/", headers=f"X-User: u{user}\r\n")).body for _ in range(4)}
            assert len(bodies) == 1
            homes[user] = bodies.pop()
        assert len(set(homes.values())) > 1
        assert len({(await client.get()).body for _ in range(40)}) > 1


async def test_a_query_parameter_and_the_caller_s_address_are_keys_too(pki):
    async with many(pki, 4, affinity=ConsistentHash(HashBy.QUERY, "cart")) as (client, _, _sidecar):
        assert len({(await client.get(f"/x?a={turn}&cart=7")).body for turn in range(12)}) == 1
        assert len({(await client.get(f"/x?cart={turn}")).body for turn in range(30)}) > 1
    async with many(pki, 4, affinity=ConsistentHash(HashBy.SOURCE_IP)) as (client, _, _sidecar):
        assert len({(await client.get()).body for _ in range(12)}) == 1


async def test_a_client_without_the_cookie_gets_one_and_keeps_to_its_endpoint(pki):
    cookie = ConsistentHash(HashBy.COOKIE, "home", "/shop", 3600.0, (("SameSite", "Lax"),))
    async with many(pki, 4, affinity=cookie) as (client, _, _sidecar):
        first = await client.get()
        value, *attributes = first.headers["set-cookie"].split("; ")
        assert attributes == ["Max-Age=3600", "Path=/shop", "SameSite=Lax", "HttpOnly"]
        for _ in range(8):
            answer = await client.get("/", headers=f"Cookie: other=1; {value}\r\n")
            assert answer.body == first.body
            assert "set-cookie" not in answer.headers


async def test_without_a_time_to_live_no_cookie_is_made(pki):
    async with many(pki, 3, affinity=ConsistentHash(HashBy.COOKIE, "home")) as (client, _, _sidecar):
        assert "set-cookie" not in (await client.get()).headers


async def test_the_own_node_is_preferred_until_its_endpoints_fail(pki):
    where = {"n1": "eu/a/n1", "n2": "eu/b/n2", "n3": "us/a/n3"}
    outlier = OutlierDetection(consecutive_5xx=1, max_ejection_pct=100)
    settings = {"locality": Locality(), "outlier": outlier, "load_balancing": LoadBalancing.RANDOM}
    async with many(pki, 3, "n2", ("n1", "n2", "n3"), where, **settings) as (client, apps, _sidecar):
        assert {(await client.get()).body for _ in range(15)} == {b"1"}
        apps[1].reply = lambda _request: ok(b"bad", "500 Oops")
        assert (await client.get()).status == 500
        assert {(await client.get()).body for _ in range(15)} == {b"0"}


async def test_an_ejection_is_logged_and_counted_with_its_cause(pki, caplog):
    outlier = OutlierDetection(consecutive_5xx=0, consecutive_gateway_errors=2, max_ejection_pct=50)
    async with many(pki, 2, outlier=outlier, load_balancing=LoadBalancing.ROUND_ROBIN) as (
        client,
        apps,
        sidecar,
    ):
        apps[0].reply = lambda _request: ok(b"bad", "503 Service Unavailable")
        with caplog.at_level(logging.WARNING, "meshpy.proxy"):
            for _ in range(8):
                await client.get()
        assert len(apps[0].requests) == 2
        upstream = sidecar.clusters.live["c"]
        assert upstream.stats.ejections == {"consecutive-gateway-errors": 1}
        text = prometheus_text(sidecar.telemetry)
        detector = 'cluster="c",detector="consecutive-gateway-errors"'
        assert f"meshpy_outlier_ejections_total{{{detector}}} 1" in text
        assert 'meshpy_cluster_hosts{cluster="c",state="ejected"} 1' in text
        name = f"{LOOPBACK}:{apps[0].port} of c is left out for 30 s, consecutive-gateway-errors"
        assert any(name in message for message in caplog.messages)


async def test_peak_ewma_leaves_a_slow_endpoint_to_few_requests(pki):
    async def slow(_request: Received) -> bytes:
        await asyncio.sleep(0.1)
        return ok(b"slow")

    async with many(pki, 2, load_balancing=LoadBalancing.PEAK_EWMA) as (client, apps, _sidecar):
        apps[0].reply = slow
        for _ in range(40):
            await client.get()
        assert len(apps[0].requests) < 8


async def test_an_endpoint_that_joins_warms_up(pki):
    settings = {"load_balancing": LoadBalancing.RANDOM, "warmup": Warmup(600.0, 5.0)}
    async with many(pki, 2, **settings) as (client, apps, sidecar):
        upstream = sidecar.clusters.live["c"]
        both = upstream.cluster.endpoints
        upstream.set_endpoints(both[:1])
        upstream.set_endpoints(both)
        for _ in range(100):
            await client.get()
        assert len(apps[1].requests) < 25
