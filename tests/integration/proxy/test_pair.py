"""The pair over mTLS: identities both ways, authorization, opaque TCP, revocation, swaps."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import replace

import pytest

from certs.tls import client_context
from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    Operation,
    Tier,
)
from meshpy.model.endpoint import Endpoint
from meshpy.model.match import Exact
from meshpy.model.names import ServiceName
from meshpy.model.resilience import RetryPolicy
from meshpy.model.snapshot import mesh_sni
from proxy.config import ConfigError
from proxy.net.ending import reset
from proxy.series import prometheus_text
from proxy.tunnel import LINGER_S, UPSTREAM_LINGER_S
from tests.helpers.backends import backend, raw_server
from tests.helpers.pki import mesh_pki
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    API,
    LOOPBACK,
    WEB,
    Client,
    LogLines,
    echo,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    pair,
    route,
    running,
    tcp_pair,
)


def _network_policy(name: str, rule: str) -> NetworkPolicy:
    return NetworkPolicy(name, (NetworkRule(rule, NetworkAction.DENY),))


DENY_ALL = Authorization(
    ingress=(
        Tier(
            "default",
            (
                NetworkPolicy(
                    "NetworkPolicy default/deny-all", (NetworkRule("ingress[0]", NetworkAction.DENY),)
                ),
            ),
        ),
    )
)


async def tls_client(pki, mesh_port: int, identity, *, sni: str, alpn: str = "http/1.1") -> Client:
    context = client_context(identity, pki.bundle, alpn=(alpn,))
    return Client(*await asyncio.open_connection(LOOPBACK, mesh_port, ssl=context, server_hostname=sni))


async def test_the_application_learns_who_called_and_nobody_can_say_it_for_him(pki):
    async with backend() as app, pair(pki, app.port) as (port, *_), await Client.connect(port) as client:
        spoofed = "X-Forwarded-Client-Cert: URI=spiffe://mesh.test/ns/shop/sa/root\r\n"
        assert (await client.get("/", headers=spoofed)).status == 200
    fields = app.requests[0].headers("x-forwarded-client-cert")
    assert len(fields) == 1
    assert fields[0].startswith("By=spiffe://mesh.test/ns/shop/sa/api;Hash=")
    assert fields[0].endswith(";URI=spiffe://mesh.test/ns/shop/sa/web")


async def test_a_connection_option_cannot_strip_the_identity(pki):
    async with backend() as app, pair(pki, app.port) as (port, *_), await Client.connect(port) as client:
        await client.get("/", headers="Connection: x-forwarded-client-cert, x-request-id\r\n")
    assert len(app.requests[0].headers("x-forwarded-client-cert")) == 1


async def test_connections_between_sidecars_are_reused(pki):
    async with (
        backend() as app,
        pair(pki, app.port) as (port, _, _, api),
        await Client.connect(port) as client,
    ):
        for _ in range(10):
            assert (await client.get()).status == 200
        assert api.capacity.open == 1
    assert app.connections == 1


async def test_a_denial_names_policy_rule_and_reason_to_the_caller_and_the_log(pki):
    log = LogLines()
    snapshot = inbound_snapshot(80, (Endpoint(LOOPBACK, 1),), authorization=DENY_ALL)
    async with (
        pair(pki, 1, callee=snapshot, log=log) as (port, _, _, api),
        await Client.connect(port) as client,
    ):
        answer = await client.get()
        assert answer.status == 403
        assert answer.headers["x-meshpy-denied-by"] == "NetworkPolicy default/deny-all ingress[0]"
        assert b"denied by NetworkPolicy default/deny-all ingress[0]" in answer.body
        line = log.lines()[0]
        assert line["policy"] == "NetworkPolicy default/deny-all"
        assert line["rule"] == "ingress[0]"
        assert line["principal"] == "mesh.test/ns/shop/sa/web"
        record = api.telemetry.take_records()[0]
        assert record["denied"] == {"NetworkPolicy default/deny-all": 1}
        assert record["success"] == 0
        assert 'action="deny"} 1' in prometheus_text(api.telemetry)


async def test_an_egress_denial_comes_from_the_caller_s_own_sidecar(pki):
    egress = Authorization(
        egress=(
            Tier(
                "default",
                (NetworkPolicy("NetworkPolicy shop/out", (NetworkRule("egress[0]", NetworkAction.DENY),)),),
            ),
        )
    )
    async with (
        backend() as app,
        pair(pki, app.port, caller={"authorization": egress}) as (port, *_),
        await Client.connect(port) as client,
    ):
        answer = await client.get()
    assert (answer.status, answer.headers["x-meshpy-denied-by"]) == (403, "NetworkPolicy shop/out egress[0]")
    assert app.connections == 0


async def test_rules_on_paths_hold_for_every_spelling(pki):
    policy = AuthorizationPolicy(
        "AuthorizationPolicy shop/no-admin",
        Action.DENY,
        (AuthorizationRule("rules[0]", operations=(Operation(paths=(Exact("/admin"),)),)),),
    )
    authorization = Authorization(baseline=frozenset({WEB}), policies=(policy,))
    async with backend() as app:
        snapshot = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),), authorization=authorization)
        async with pair(pki, app.port, callee=snapshot) as (port, *_), await Client.connect(port) as client:
            for path in (
                "/admin",
                "//admin",
                "/./admin",
                "/x/../admin",
                "/%61dmin",
                "/x%2f..%2fadmin",
                "\\admin",
            ):
                assert (await client.get(f"/{path.lstrip('/')}" if path[0] != "/" else path)).status == 403, (
                    path
                )
            assert (await client.get("/ADMIN")).status == 200
            assert (await client.get("/admin")).status == 403


async def test_a_foreign_certificate_is_refused_and_the_application_sees_no_byte(pki):
    stranger = mesh_pki()
    other_domain = mesh_pki("other.test")
    async with backend() as app, pair(pki, app.port) as (_, mesh_port, _, api):
        for identity in (stranger.identity("shop", "web"), other_domain.identity("shop", "web")):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                async with await tls_client(pki, mesh_port, identity, sni=mesh_sni(API, 80)) as client:
                    await client.get()
        assert api.telemetry.refused_handshakes["tls-handshake"] >= 1
    assert app.connections == 0


async def test_a_server_name_that_means_no_port_is_refused(pki):
    async with backend() as app, pair(pki, app.port) as (_, mesh_port, _, api):
        for sni in ("p81.api.shop.mesh", "api.shop.mesh", "example.com"):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                async with await tls_client(pki, mesh_port, pki.identity("shop", "web"), sni=sni) as client:
                    await client.get()
        assert api.telemetry.refused_handshakes["unknown-port"] == 3
    assert app.connections == 0


async def test_plaintext_on_the_mesh_port_is_refused(pki):
    async with (
        backend() as app,
        pair(pki, app.port) as (_, mesh_port, *_),
        await Client.connect(mesh_port) as client,
    ):
        await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
        assert b"HTTP" not in await client.reader.read()
    assert app.connections == 0


async def test_the_caller_refuses_a_valid_certificate_of_somebody_else(pki):
    impostor = ServiceName("shop", "db")
    async with backend() as app:
        snapshot = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),))
        snapshot = replace(snapshot, workload=replace(snapshot.workload, name=impostor))
        async with pair(pki, app.port, callee=snapshot) as (port, *_), await Client.connect(port) as client:
            answer = await client.get()
            assert answer.status == 503
            assert b"unexpected-peer" in answer.body
    assert app.connections == 0


async def test_a_stranger_at_an_edge_address_learns_no_policy_name(pki):
    port = free_port()
    log = LogLines()
    async with backend() as app:
        snapshot = inbound_snapshot(
            port, (Endpoint(LOOPBACK, app.port),), ingress=True, authorization=DENY_ALL
        )
        async with (
            running(
                snapshot, pki, mesh_port=free_port(), binds={"edge": ("127.0.0.3",)}, log=log.log
            ) as sidecar,
            await Client.connect(port, "127.0.0.3") as client,
        ):
            denied = await client.get()
            opened = Authorization(baseline_external=frozenset({port}))
            await sidecar.apply(replace(snapshot, version="next", authorization=opened))
            allowed = await client.get("/", headers="X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n")
    assert (denied.status, denied.body) == (403, b"RBAC: access denied\n")
    assert "x-meshpy-denied-by" not in denied.headers
    assert log.lines()[0]["policy"] == "NetworkPolicy default/deny-all"
    assert allowed.status == 200
    seen = app.requests[0]
    assert seen.headers("x-forwarded-for") == ["6.6.6.6, 127.0.0.1"]
    assert seen.headers("x-real-ip") == ["127.0.0.1"]
    assert seen.headers("x-forwarded-client-cert") == []


async def test_a_refusal_before_the_application_lets_even_a_post_go_elsewhere(pki):
    dead_app = free_port()
    port, bad_mesh, good_mesh = free_port(), free_port(), free_port()
    async with backend() as app:
        bad = inbound_snapshot(80, (Endpoint(LOOPBACK, dead_app),))
        good = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),))
        cluster = mesh_cluster(bad_mesh)
        cluster = replace(cluster, endpoints=(*cluster.endpoints, Endpoint(LOOPBACK, good_mesh, API)))
        rules = (route("c", retry=RetryPolicy(backoff_s=0.001)),)
        async with (
            running(bad, pki, mesh_port=bad_mesh),
            running(good, pki, mesh_port=good_mesh),
            running(outbound_snapshot(port, {"c": cluster}, rules), pki),
            await Client.connect(port) as client,
        ):
            for _ in range(10):
                answer = await client.post("/", b"order")
                assert answer.status == 200
                assert "x-meshpy-not-sent" not in answer.headers
    assert len(app.requests) == 10


async def test_a_server_that_ends_a_connection_is_not_waited_for(pki):
    """FastCGI and its like: the end is part of the answer."""

    async def answer(reader, writer):
        await reader.read(100)
        writer.write(b"whole")
        writer.close()

    async with tcp_pair(pki, answer) as (port, *_):
        begun = asyncio.get_running_loop().time()
        for _ in range(8):
            async with await Client.connect(port) as client:
                await client.send(b"x")
                assert await client.reader.read() == b"whole"
        assert asyncio.get_running_loop().time() - begun < 8 * LINGER_S


async def test_a_server_that_only_stops_talking_gets_what_is_still_sent_however_late(pki):
    got = asyncio.get_running_loop().create_future()

    async def listen(reader, writer):
        await reader.readexactly(1)
        writer.write_eof()
        got.set_result(await reader.read())
        writer.close()

    async with tcp_pair(pki, listen) as (port, _, web, api), await Client.connect(port) as client:
        await client.send(b"x" * 1_000_001)
        assert await client.reader.read() == b""
        await asyncio.sleep(4 * UPSTREAM_LINGER_S)
        await client.send(b"y" * 1_000_000)
        client.writer.write_eof()
        async with asyncio.timeout(20):
            assert await got == b"x" * 1_000_000 + b"y" * 1_000_000
            while web.shared.splices or api.shared.splices:  # noqa: ASYNC110 - what others do has no event
                await asyncio.sleep(0.01)


async def test_a_client_that_only_stops_talking_gets_what_is_still_sent_however_late(pki):
    async def answer(reader, writer):
        got = await reader.read()
        for part in (b"%d " % len(got), b"z" * 1_000_000, b" late"):
            writer.write(part)
            await asyncio.sleep(0.2)

    log = LogLines()
    async with tcp_pair(pki, answer, log=log) as (port, *_), await Client.connect(port) as client:
        await client.send(b"x" * 1_000_000)
        client.writer.write_eof()
        async with asyncio.timeout(20):
            assert await client.reader.read() == b"1000000 " + b"z" * 1_000_000 + b" late"
    (line,) = log.lines()
    assert (line["response_flags"], line["bytes_received"], line["bytes_sent"]) == ("-", 1_000_000, 1_000_013)


async def test_a_peer_that_knows_no_half_close_is_waited_for_and_no_longer(pki):
    """An older sidecar, or another's: its goodbye ends both directions, and so would ours."""

    async def answer(reader, writer):
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b""

    async with tcp_pair(pki, answer) as (_, _, web, _):
        mesh_port = web.snapshot.value.clusters["c"].endpoints[0].port
        caller = await tls_client(
            pki, mesh_port, pki.identity("shop", "web"), sni=mesh_sni(API, 5432), alpn="tcp"
        )
        async with caller as client, asyncio.timeout(5):
            assert await client.reader.read() == b"hello"


@pytest.mark.parametrize("is_half_closed", [False, True])
async def test_what_was_cut_off_is_a_reset_for_both_ends_and_no_end(pki, is_half_closed):
    async def cut(reader, writer):
        await (reader.read() if is_half_closed else reader.readexactly(5))
        writer.write(b"half of it")
        await asyncio.sleep(0.1)
        reset(writer.transport)

    async with tcp_pair(pki, cut) as (port, *_), await Client.connect(port) as client:
        await client.send(b"hello")
        if is_half_closed:
            client.writer.write_eof()
        assert await client.reader.readexactly(10) == b"half of it"
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


async def test_half_of_a_connection_that_nobody_uses_is_ended(pki, monkeypatch):
    monkeypatch.setattr("proxy.tunnel.HALF_CLOSED_IDLE_S", 0.3)

    over = asyncio.Event()

    async def never(reader, _writer):
        await reader.read()
        await over.wait()

    async with tcp_pair(pki, never) as (port, *_), await Client.connect(port) as client:
        await client.send(b"x")
        client.writer.write_eof()
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionResetError):
                await client.reader.read()
        over.set()


async def test_what_passes_through_a_connection_that_goes_on_is_counted_once(pki):
    async with tcp_pair(pki, echo) as (port, _, web, api):
        async with await Client.connect(port) as client:
            for number in range(1, 4):
                await client.send(b"ping")
                assert await client.reader.readexactly(4) == b"PING"
                for sidecar in (web, api):
                    sidecar.count_tunnels()
                    sidecar.count_tunnels()
                    (edge,) = sidecar.telemetry.edges.values()
                    assert (edge.opened, edge.closed) == (1, 0)
                    assert (edge.bytes_received, edge.bytes_sent) == (4 * number, 4 * number)
        for sidecar in (web, api):
            (edge,) = sidecar.telemetry.edges.values()
            async with asyncio.timeout(5):
                while not edge.closed:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert (edge.bytes_received, edge.bytes_sent) == (12, 12)


async def test_opaque_tcp_passes_both_ways_and_is_counted(pki):
    log = LogLines()
    async with tcp_pair(pki, echo, log=log) as (port, _, web, api):
        async with await Client.connect(port) as client:
            await client.send(b"select 1;")
            assert await client.reader.readexactly(9) == b"SELECT 1;"
            big = b"x" * (4 * 1024 * 1024)
            sending = asyncio.get_running_loop().create_task(client.send(big))
            assert await client.reader.readexactly(len(big)) == big.upper()
            await sending
        async with asyncio.timeout(5):
            while web.shared.splices or api.shared.splices:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.02)
        line = log.lines()[0]
        assert line["protocol"] == "TCP"
        assert line["bytes_received"] == line["bytes_sent"] == 9 + len(big)
        assert line["principal"] == "mesh.test/ns/shop/sa/web"
        assert "istio_tcp_connections_closed_total" in prometheus_text(api.telemetry)


async def test_a_tcp_denial_is_a_closed_connection_and_a_line_in_the_log(pki):
    log = LogLines()
    async with tcp_pair(pki, echo, authorization=DENY_ALL, log=log) as (port, *_):
        async with await Client.connect(port) as client:
            assert await client.is_closed()
        await asyncio.sleep(0.05)
        assert log.lines()[0]["policy"] == "NetworkPolicy default/deny-all"


async def test_a_live_tunnel_ends_when_a_new_policy_denies_it(pki):
    async with tcp_pair(pki, echo) as (port, inbound, _, api), await Client.connect(port) as client:
        await client.send(b"a")
        assert await client.reader.readexactly(1) == b"A"
        await api.apply(replace(inbound, version="denied", authorization=DENY_ALL))
        assert await client.is_closed()


async def test_a_revoked_identity_is_cut_off(pki):
    async with backend() as app:
        snapshot = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),))
        async with (
            pair(pki, app.port, callee=snapshot) as (port, _, _, api),
            await Client.connect(port) as client,
        ):
            assert (await client.get()).status == 200
            denied = frozenset({"spiffe://mesh.test/ns/shop/sa/web"})
            await api.apply(replace(snapshot, version="revoked", denied=denied))
            assert (await client.get()).status == 503
    assert len(app.requests) == 1


async def test_a_connection_ends_with_the_certificate_of_its_peer(pki):
    async with backend() as app, pair(pki, app.port) as (_, mesh_port, *_):
        identity = pki.identity("shop", "web", ttl_s=2)
        async with await tls_client(pki, mesh_port, identity, sni=mesh_sni(API, 80)) as client:
            assert (await client.get()).status == 200
            async with asyncio.timeout(4):
                assert await client.is_closed()


async def test_renewing_identities_under_load_fails_no_request(pki):
    async with (
        backend() as app,
        pair(pki, app.port) as (port, _, web, api),
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(await Client.connect(port)) for _ in range(8)]
        statuses: list[int] = []
        stop = asyncio.Event()

        async def drive(client: Client) -> None:
            while not stop.is_set():
                statuses.append((await client.post("/", b"x")).status)

        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(drive(client))
            for _ in range(10):
                await asyncio.sleep(0.05)
                await web.set_identity(pki.identity("shop", "web"), pki.bundle)
                await api.set_identity(pki.identity("shop", "api"), pki.bundle)
            stop.set()
    assert set(statuses) == {200}
    assert len(statuses) > 8


async def test_swapping_snapshots_under_load_loses_nothing(pki):
    async with backend() as app:
        port, mesh_port = free_port(), free_port()
        inbound = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),))
        outbound = outbound_snapshot(port, {"c": mesh_cluster(mesh_port)})
        async with (
            running(inbound, pki, mesh_port=mesh_port) as api,
            running(outbound, pki) as web,
            contextlib.AsyncExitStack() as stack,
        ):
            clients = [await stack.enter_async_context(await Client.connect(port)) for _ in range(8)]
            statuses: list[int] = []
            stop = asyncio.Event()

            async def drive(client: Client) -> None:
                while not stop.is_set():
                    statuses.append((await client.post("/", b"x")).status)

            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(drive(client))
                for number in range(20):
                    await asyncio.sleep(0.02)
                    await web.apply(replace(outbound, version=f"o{number}", revision=number))
                    await api.apply(replace(inbound, version=f"i{number}", revision=number))
                stop.set()
            assert api.capacity.open <= 8
    assert set(statuses) == {200}


async def test_a_snapshot_that_cannot_be_applied_changes_nothing(pki):
    taken = free_port()
    async with backend() as app, raw_server(echo) as busy:
        port = free_port()
        good = outbound_snapshot(port, {"c": replace(mesh_cluster(1), endpoints=())})
        async with running(good, pki) as web:
            bad = replace(good, version="bad", outbound=(replace(good.outbound[0], port=busy),))
            with pytest.raises(ConfigError, match=f"127.0.0.1:{busy}"):
                await web.apply(bad)
            with pytest.raises(ConfigError, match="no address of this task"):
                await web.apply(
                    replace(good, version="b2", outbound=(replace(good.outbound[0], bind="shop_x"),))
                )
            moved = replace(good, version="moved", outbound=(replace(good.outbound[0], port=taken),))
            async with await Client.connect(port) as client:
                assert (await client.get()).status == 503
            await web.apply(moved)
            async with await Client.connect(taken) as client:
                assert (await client.get()).status == 503
            with pytest.raises(ConnectionRefusedError):
                await Client.connect(port)
        assert app.connections == 0
