"""Two sidecars, one of them an egress gateway: what goes outside passes it, by its caller's identity."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Condition,
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    PeerMatch,
    Source,
    Tier,
)
from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.gateway import GatewayGrant, grant_for, outside_of_sni, outside_sni
from meshpy.model.match import Exact
from meshpy.model.names import ServiceName
from meshpy.model.route import Destination, TcpRoute
from meshpy.model.snapshot import Snapshot, Workload
from meshpy.wire import decode_snapshot, encode
from proxy import gateway
from proxy.forward_proxy import ForwardProxy
from proxy.outside_policy import ForwardSettings, OutboundPolicy
from tests.helpers.backends import backend, raw_server
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    WEB,
    Client,
    LogLines,
    inbound_snapshot,
    outbound_snapshot,
    running,
)

GATEWAY = ServiceName("mesh-egress", "gateway")
HOST = "api.example.com"


@pytest.fixture(autouse=True)
def loopback_is_outside(monkeypatch):
    """Everything of a test is on loopback, where nothing outside can be."""
    monkeypatch.setattr(gateway, "is_outside", lambda *_: True)


def gateway_snapshot(*grants: GatewayGrant, policies=(), callers=None) -> Snapshot:
    known = frozenset(name for grant in grants for name in grant.callers)
    snapshot = Snapshot(
        "v1",
        1,
        Workload(GATEWAY, "mesh.test"),
        Authorization(policies=policies, baseline=known),
        gateway=grants,
        callers=callers or {},
    )
    return decode_snapshot(encode(snapshot))


def caller_snapshot(
    port: int, mesh_port: int, host: str = HOST, number: int = 80, protocol: Protocol = Protocol.HTTP
) -> Snapshot:
    name = f"outbound|{number}||{host}"
    cluster = Cluster(
        name,
        protocol,
        Transport.GATEWAY,
        (Endpoint(LOOPBACK, mesh_port, GATEWAY),),
        sni=outside_sni(host, number),
    )
    tcp = TcpRoute(host, (Destination(name, host=host),)) if protocol is Protocol.TCP else None
    return decode_snapshot(encode(outbound_snapshot(port, {name: cluster}, tcp=tcp)))


def grant(port: int, *callers: ServiceName, host: str = HOST, number: int = 80) -> GatewayGrant:
    return GatewayGrant(host, number, frozenset(callers or (WEB,)), ((LOOPBACK, port),))


async def test_requests_go_through_the_gateway_and_its_log_names_their_caller(pki):
    mesh_port, port, log = free_port(), free_port(), LogLines()
    async with (
        backend() as outside,
        running(gateway_snapshot(grant(outside.port)), pki, mesh_port=mesh_port, log=log.log),
        running(caller_snapshot(port, mesh_port), pki),
        await Client.connect(port) as client,
    ):
        assert (await client.get("/a")).status == 200
        assert (await client.post("/b", b"x" * 200_000)).status == 200
    async with asyncio.timeout(5):
        while not (lines := log.lines()):  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.02)
    assert lines[0]["requested_server_name"] == HOST
    assert lines[0]["principal"] == "mesh.test/ns/shop/sa/web"
    received = outside.requests[0]
    assert received.headers("x-forwarded-client-cert") == []
    assert [each.line for each in outside.requests] == ["GET /a HTTP/1.1", "POST /b HTTP/1.1"]


async def test_bytes_pass_both_ways_and_a_server_may_speak_first(pki):
    async def greet(reader, writer):
        writer.write(b"220 hello\n")
        writer.write((await reader.readline()).upper())

    mesh_port, port = free_port(), free_port()
    async with (
        raw_server(greet) as outside,
        running(gateway_snapshot(grant(outside, number=25)), pki, mesh_port=mesh_port),
        running(caller_snapshot(port, mesh_port, HOST, 25, Protocol.TCP), pki),
        await Client.connect(port) as client,
    ):
        assert await client.reader.readline() == b"220 hello\n"
        await client.send(b"bytes\n")
        assert await client.reader.readline() == b"BYTES\n"


async def test_who_was_not_granted_a_host_reaches_nothing(pki):
    mesh_port, port, log = free_port(), free_port(), LogLines()
    other = ServiceName("shop", "api")
    async with (
        backend() as outside,
        running(gateway_snapshot(grant(outside.port, other)), pki, mesh_port=mesh_port, log=log.log),
        running(caller_snapshot(port, mesh_port), pki),
        await Client.connect(port) as client,
    ):
        assert (await client.get("/")).status in (502, 503)
        assert any("names no host" in str(line) or line["response_flags"] for line in log.lines())
    assert not outside.requests


async def test_policies_at_the_gateway_judge_by_caller_and_host_and_cut_what_they_end(pki):
    def denying(host: str) -> AuthorizationPolicy:
        source = Source((Exact("mesh.test/ns/shop/sa/web"),))
        rule = AuthorizationRule(
            "rules[0]", (source,), conditions=(Condition("connection.sni", (Exact(host),)),)
        )
        return AuthorizationPolicy("mesh-egress/no", Action.DENY, (rule,))

    mesh_port, port = free_port(), free_port()
    async with backend() as outside:
        before = gateway_snapshot(grant(outside.port), policies=(denying("other.example.com"),))
        async with (
            running(before, pki, mesh_port=mesh_port) as sidecar,
            running(caller_snapshot(port, mesh_port), pki),
        ):
            async with await Client.connect(port) as client:
                assert (await client.get("/")).status == 200
            await sidecar.apply(gateway_snapshot(grant(outside.port), policies=(denying(HOST),)))
            async with await Client.connect(port) as client:
                assert (await client.get("/")).status in (502, 503)
    assert len(outside.requests) == 1


async def test_the_callers_own_egress_rules_are_judged_there_by_the_address_that_is_dialled(pki):
    rule = NetworkRule("egress[0]", NetworkAction.DENY, peer=PeerMatch(nets=("127.0.0.0/8",)))
    tier = Tier("default", (NetworkPolicy("shop/no-loopback", (rule,)),), NetworkAction.ALLOW)
    mesh_port, port = free_port(), free_port()
    async with backend() as outside:
        snapshot = gateway_snapshot(grant(outside.port), callers={str(WEB): Authorization(egress=(tier,))})
        async with (
            running(snapshot, pki, mesh_port=mesh_port),
            running(caller_snapshot(port, mesh_port), pki),
            await Client.connect(port) as client,
        ):
            assert (await client.get("/")).status in (502, 503)
    assert not outside.requests


async def test_an_app_reaches_any_granted_host_through_its_forward_proxy_and_the_gateway(pki):
    async def upper(reader, writer):
        writer.write((await reader.readline()).upper())

    mesh_port, port, proxy_port = free_port(), free_port(), free_port()
    name = f"outbound|15443||{GATEWAY.name}.{GATEWAY.namespace}"
    way = Cluster(name, Protocol.TCP, Transport.GATEWAY, (Endpoint(LOOPBACK, mesh_port, GATEWAY),))
    own = caller_snapshot(port, mesh_port)
    own = replace(own, clusters={**own.clusters, name: way}, egress_gateway=name)
    settings = ForwardSettings(OutboundPolicy.ALLOW_ANY, LOOPBACK, port=proxy_port)
    async with raw_server(upper) as outside:
        granted = GatewayGrant("*.example.org", 0, frozenset({WEB}), ((LOOPBACK, outside),))
        async with (
            running(gateway_snapshot(granted), pki, mesh_port=mesh_port),
            running(own, pki) as sidecar,
        ):
            task = asyncio.get_running_loop().create_task(ForwardProxy(sidecar, settings).run())
            try:
                for host, answer in (("deep.www.example.org", b"HELLO\n"), ("example.org", b"")):
                    async with asyncio.timeout(10):
                        while True:
                            try:
                                client = await Client.connect(proxy_port)
                                break
                            except ConnectionError:
                                await asyncio.sleep(0.05)
                    async with client:
                        await client.send(f"CONNECT {host}:7 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                        assert (await client.head())[0] == 200
                        await client.send(b"hello\n")
                        assert await client.reader.readline() == answer
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def test_a_sidecar_that_is_no_gateway_takes_no_such_name_for_a_port_of_its_own(pki):

    mesh_port, port = free_port(), free_port()
    async with backend() as app:
        snapshot = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),))
        cluster = caller_snapshot(port, mesh_port)
        api = ServiceName("shop", "api")
        clusters = {
            key: replace(each, endpoints=(Endpoint(LOOPBACK, mesh_port, api),))
            for key, each in cluster.clusters.items()
        }
        async with (
            running(snapshot, pki, mesh_port=mesh_port) as sidecar,
            running(replace(cluster, clusters=clusters), pki),
            await Client.connect(port) as client,
        ):
            assert (await client.get("/")).status in (502, 503)
            assert sidecar.telemetry.refused_handshakes["unknown-port"] >= 1
    assert not app.requests


def test_names_of_hosts_and_grants():
    assert outside_of_sni(outside_sni("API.example.com", 443)) == ("api.example.com", 443)
    for text in (
        "p8080.api.outside.mesh",
        "p0.a._outside.mesh",
        "px.a._outside.mesh",
        "p1._outside.mesh",
        "",
    ):
        assert outside_of_sni(text) is None
    wide, narrow = GatewayGrant("*", 0, frozenset({WEB})), GatewayGrant("*.b.test", 443, frozenset({WEB}))
    exact = GatewayGrant("a.b.test", 443, frozenset({WEB}), (("db", 1),))
    every = (wide, narrow, exact)
    assert grant_for(every, WEB, "a.b.test", 443) is exact
    assert grant_for(every, WEB, "c.b.test", 443) is narrow
    assert grant_for(every, WEB, "b.test", 443) is wide
    assert grant_for(every, WEB, "a.b.test", 80) is wide
    assert grant_for(every, None, "a.b.test", 80) is None
