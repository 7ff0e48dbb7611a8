"""THREATS B 41-45: who a caller is, nobody can say for him, at the mesh port and at an edge."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Condition,
    Operation,
)
from meshpy.model.endpoint import Endpoint
from meshpy.model.match import Exact, Prefix
from proxy.series import prometheus_text
from proxy.telemetry import MAX_EDGES, MAX_VERDICTS, EdgeKey, Telemetry
from tests.helpers.backends import backend
from tests.helpers.h2 import DATA, POST, H2Client, frame, request
from tests.helpers.pki import mesh_pki
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    WEB,
    Client,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    running,
)

FORGED = [
    "X-Forwarded-Client-Cert",
    "x-forwarded-client-cert",
    "X_Forwarded_Client_Cert",
    "X-Forwarded_Client-Cert",
    "X-Spiffe-Id",
    "X_SPIFFE_ID",
    "X-Meshpy-Denied-By",
    "X-Meshpy-Not-Sent",
    "X-Meshpy-Anything",
    "X_Meshpy_Identity",
]
EDGE = "127.0.0.3"


@contextlib.asynccontextmanager
async def edge(app_port: int, *policies: AuthorizationPolicy):
    port = free_port()
    auth = Authorization(policies=policies, baseline_external=frozenset({port}))
    snapshot = inbound_snapshot(port, (Endpoint(LOOPBACK, app_port),), ingress=True, authorization=auth)
    async with (
        running(snapshot, mesh_pki(), mesh_port=free_port(), binds={"edge": (EDGE,)}) as sidecar,
        await Client.connect(port, EDGE) as client,
    ):
        yield client, sidecar


@contextlib.asynccontextmanager
async def pair(app_port: int, *policies: AuthorizationPolicy):
    door, mesh_port, pki = free_port(), free_port(), mesh_pki()
    auth = Authorization(policies=policies, baseline=frozenset({WEB}))
    snapshot = inbound_snapshot(80, (Endpoint(LOOPBACK, app_port),), authorization=auth)
    async with (
        running(snapshot, pki, mesh_port=mesh_port) as sidecar,
        running(outbound_snapshot(door, {"c": mesh_cluster(mesh_port)}), pki),
        await Client.connect(door) as client,
    ):
        yield client, sidecar


def names(received) -> list[str]:
    lines = received.head.decode("latin-1").split("\r\n")[1:]
    return [line.partition(":")[0].lower().replace("_", "-") for line in lines if line]


@pytest.mark.parametrize("way", [edge, pair])
async def test_fields_that_the_mesh_alone_may_set_never_arrive_as_a_client_wrote_them(way):
    """41, 42: each alone, all together, and where a Connection option names them."""
    async with backend() as app, way(app.port) as (client, _):
        for name in FORGED:
            assert (await client.get("/", headers=f"{name}: forged\r\n")).status == 200
        everything = "".join(f"{name}: forged\r\n" for name in FORGED)
        assert (await client.get("/", headers=everything)).status == 200
        nominated = "Connection: x-forwarded-client-cert\r\n" + everything
        assert (await client.get("/", headers=nominated)).status == 200
    own = 1 if way is pair else 0
    for seen in app.requests:
        assert "forged" not in seen.head.decode("latin-1")
        assert names(seen).count("x-forwarded-client-cert") == own
        assert names(seen).count("x-spiffe-id") == 0


@pytest.mark.parametrize("way", [edge, pair])
async def test_a_trailer_says_nothing_that_a_field_of_the_head_may_not(way):
    """31, 42: servers that merge trailers into the head would believe it."""
    names = [*FORGED, "X-Forwarded-For", "X_Forwarded_For", "X_Real_IP", "Authorization", "Host"]
    trailers = "".join(f"{name}: forged\r\n" for name in names) + "X-Sum: kept\r\n"
    async with backend() as app, way(app.port) as (client, _):
        head = "POST / HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
        await client.send((head + trailers + "\r\n").encode())
        assert (await client.answer()).status == 200
    assert b"X-Sum: kept" in app.raw
    assert b"forged" not in app.raw


async def test_the_certificate_field_is_the_verified_caller_and_nobody_else():
    async with backend() as app, pair(app.port) as (client, _):
        await client.get(
            "/", headers="X-Forwarded-Client-Cert: By=a;URI=spiffe://mesh.test/ns/shop/sa/root\r\n"
        )
    (value,) = app.requests[0].headers("x-forwarded-client-cert")
    assert value.count("URI=") == value.count("By=") == 1
    assert value.endswith(";URI=spiffe://mesh.test/ns/shop/sa/web")


async def test_an_edge_vouches_for_the_address_it_saw():
    """41: what came before stays readable, and is not what our own last entry says."""
    async with backend() as app, edge(app.port) as (client, _):
        await client.get(
            "/", headers="X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 7.7.7.7\r\nX-Real-IP: 6.6.6.6\r\n"
        )
    seen = app.requests[0]
    assert seen.headers("x-forwarded-for") == ["6.6.6.6, 127.0.0.1"]
    assert seen.headers("x-real-ip") == ["127.0.0.1"]
    assert "7.7.7.7" not in seen.head.decode()


def policy(action: str, *operations: Operation, when=()) -> AuthorizationPolicy:
    rule = AuthorizationRule("rules[0]", operations=operations, conditions=when)
    return AuthorizationPolicy("AuthorizationPolicy shop/p", Action(action), (rule,))


async def test_of_a_header_sent_twice_every_value_is_judged():
    """43, CVE-2026-26308: neither order, nor commas, nor case of the name hides a value."""
    role = Condition("request.headers[x-role]", (Exact("admin"),))
    for action, alone, mixed in (("DENY", 403, 403), ("ALLOW", 200, 403)):
        async with backend() as app, pair(app.port, policy(action, when=(role,))) as (client, _):
            one, other = "X-Role: admin\r\n", "x-role: user\r\n"
            assert (await client.get("/", headers=one)).status == alone
            for headers in (one + other, other + one, other + one + other):
                assert (await client.get("/", headers=headers)).status == mixed
            assert (await client.get("/", headers="X-Role: user\r\n")).status != alone


@pytest.mark.parametrize(
    "host", ["secret.com", "SECRET.com", "secret.com:8080", "secret.com.", "Secret.Com.:80"]
)
async def test_a_host_is_one_host_however_it_is_spelt(host):
    """44, CVE-2021-39155, ISTIO-SECURITY-2021-008."""
    rule = policy("DENY", Operation(hosts=(Exact("secret.com"),)))
    async with backend() as app, edge(app.port, rule) as (client, _):
        await client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (await client.answer()).status == 403
        await client.send(b"GET / HTTP/1.1\r\nHost: secret.com.evil\r\n\r\n")
        assert (await client.answer()).status == 200


async def test_policy_judges_the_host_of_an_absolute_target_and_the_application_is_told_it():
    """24: RFC 9112 §3.2.2, the target wins over `Host`."""
    rule = policy("DENY", Operation(hosts=(Exact("secret.com"),)))
    async with backend() as app, edge(app.port, rule) as (client, _):
        await client.send(b"GET http://Secret.com:80/ HTTP/1.1\r\nHost: fine\r\n\r\n")
        assert (await client.answer()).status == 403
        await client.send(b"GET http://fine/ HTTP/1.1\r\nHost: secret.com\r\n\r\n")
        assert (await client.answer()).status == 200
    assert [seen.headers("host") for seen in app.requests] == [["fine"]]


async def test_hosts_and_paths_of_strangers_are_no_labels():
    """45, CVE-2025-43915: many hosts, paths and tokens, one series."""
    async with backend() as app, edge(app.port) as (client, sidecar):
        await client.get()
        before = prometheus_text(sidecar.telemetry).count("\n")
        for number in range(200):
            head = f"GET /{number} HTTP/1.1\r\nHost: h{number}.example\r\nX-Jwt: {number}\r\n\r\n"
            await client.send(head.encode())
            assert (await client.answer()).status == 200
        assert prometheus_text(sidecar.telemetry).count("\n") == before


def test_what_is_counted_by_name_is_bounded():
    """45: callers, policies and rules, whoever invents them."""
    telemetry = Telemetry("mesh.test")
    for number in range(100_000):
        telemetry.verdict("deny", f"AuthorizationPolicy shop/p{number}", "rules[0]", allowed=False)
        telemetry.refused(f"reason-{number}")
    for number in range(20_000):
        telemetry.edge(EdgeKey("inbound", f"shop/s{number}", "shop/api", "api.shop", "http", True))
    assert len(telemetry.verdicts) <= MAX_VERDICTS + 1
    assert len(telemetry.edges) <= MAX_EDGES + 2
    assert len(telemetry.refused_handshakes) <= 101
    assert sum(telemetry.verdicts.values()) == 100_000


async def test_a_caller_without_identity_meets_no_rule_on_principals():
    """41: forged identity fields are no identity."""
    principal = Condition("source.principal", (Exact("mesh.test/ns/shop/sa/web"),))
    async with backend() as app, edge(app.port, policy("ALLOW", when=(principal,))) as (client, _):
        forged = "X-Forwarded-Client-Cert: URI=spiffe://mesh.test/ns/shop/sa/web\r\n"
        assert (await client.get("/", headers=forged)).status == 403
    async with backend() as app, pair(app.port, policy("ALLOW", when=(principal,))) as (client, _):
        assert (await client.get()).status == 200


def h2_get(path: str = "/", host: str = "api", *fields: tuple[str, str]) -> bytes:
    named = ((":method", "GET"), (":scheme", "http"), (":path", path), (":authority", host), *fields)
    return request(fields=named)


async def h2_status(client: Client, sent: bytes) -> int:
    """What one request is answered that comes on a connection of its own to where `client` is."""
    host, port = client.writer.get_extra_info("peername")
    assert host == LOOPBACK
    async with await H2Client.connect(port) as other, asyncio.timeout(10):
        await other.send(sent)
        return (await other.answer()).status


async def test_over_http_2_nobody_says_either_who_a_caller_is():
    """41, 42: in the head, and in trailers, which the bridge carries to HTTP/1.1."""
    forged = tuple((name.lower(), "forged") for name in FORGED)
    hidden = (*forged, ("x-forwarded-for", "forged"), ("x_forwarded_for", "forged"), ("x-sum", "kept"))
    with_trailers = request(fields=POST, end=False) + frame(DATA, b"x", 0, 1) + request(fields=hidden)
    async with backend() as app, pair(app.port) as (client, _):
        assert await h2_status(client, h2_get("/", "api", *forged)) == 200
        assert await h2_status(client, with_trailers) == 200
    assert b"kept" in app.raw
    assert b"forged" not in app.raw
    assert [names(seen).count("x-forwarded-client-cert") for seen in app.requests] == [1, 1]


async def test_over_http_2_no_spelling_passes_a_policy_either():
    """43, 44, 46-60: hosts, fields sent twice and paths are judged as those of HTTP/1.1."""
    role = Condition("request.headers[x-role]", (Exact("admin"),))
    closed = Operation(paths=(Exact("/admin"), Prefix("/admin/")))
    rules = (
        policy("DENY", closed),
        policy("DENY", Operation(hosts=(Exact("secret.com"),))),
        policy("DENY", when=(role,)),
    )
    twice = ("x-role", "user"), ("x-role", "admin")
    paths = [
        "//admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/admin%2f",
        "/x%2f..%2fadmin",
        "/..\\admin",
        "/admin?x",
        "/admin/;",
    ]
    hosts = ["secret.com", "SECRET.com", "secret.com:8080", "secret.com.", "Secret.Com.:80"]
    denied = [h2_get(path) for path in paths] + [h2_get("/", host) for host in hosts]
    denied += [h2_get("/", "api", *twice), h2_get("/", "api", *reversed(twice))]
    async with backend() as app, pair(app.port, *rules) as (client, _):
        assert [await h2_status(client, sent) for sent in denied] == [403] * len(denied)
        assert [await h2_status(client, h2_get(path)) for path in ("/admin#x", "/admin%00")] == [400, 400]
        assert not app.requests
        assert await h2_status(client, h2_get("/%2561dmin", "secret.com.evil", ("x-role", "user"))) == 200
    assert [seen.target for seen in app.requests] == ["/%2561dmin"]
