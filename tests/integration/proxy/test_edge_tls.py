"""TLS that ends at published ports: by server name, with callers' certificates or without; refusals."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Condition,
    Source,
)
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.ingress import IngressServer, KeyPair, ServerTls, TlsMode, TlsVersion
from meshpy.model.match import Exact, Suffix
from meshpy.model.snapshot import Snapshot
from proxy.config import ConfigError
from proxy.http.proxy_protocol import header_v1
from tests.helpers.backends import backend, raw_server
from tests.helpers.ports import free_port
from tests.helpers.sidecars import LOOPBACK, Client, LogLines, inbound_snapshot, running
from tests.helpers.web_pki import WebCa

EDGE = {"edge": (LOOPBACK,)}
APP = 8080


@pytest.fixture
def ca(tmp_path: Path) -> WebCa:
    return WebCa(tmp_path)


def pair(files: tuple[Path, Path]) -> KeyPair:
    return KeyPair(*map(str, files))


def edge(app: int, *servers: IngressServer, protocol: Protocol = Protocol.HTTP, **settings) -> Snapshot:
    """The snapshot of `api`, whose port 8080 is reached from outside through these servers alone."""
    authorization = settings.pop("authorization", Authorization(baseline_external=frozenset({APP})))
    snapshot = inbound_snapshot(
        APP, (Endpoint(LOOPBACK, app),), protocol=protocol, authorization=authorization
    )
    return replace(snapshot, servers=servers, **settings)


def trusting(ca: WebCa, own: tuple[Path, Path] | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.path))
    if own is not None:
        context.load_cert_chain(*own)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


async def connected(port: int, context: ssl.SSLContext, name: str) -> Client:
    return Client(*await asyncio.open_connection(LOOPBACK, port, ssl=context, server_hostname=name))


async def test_the_server_name_chooses_the_certificate_and_the_app_is_told_of_https(pki, ca):
    one = ServerTls(("shop.example.com",), TlsMode.SIMPLE, (pair(ca.issue("shop", "shop.example.com")),))
    rest = ServerTls(("*.example.com",), TlsMode.SIMPLE, (pair(ca.issue("rest", "*.example.com")),))
    port, log = free_port(), LogLines()
    async with (
        backend() as app,
        running(
            edge(app.port, IngressServer(port, APP, 443, (rest, one))), pki, binds=EDGE, log=log.log
        ) as sidecar,
    ):
        for name in ("shop.example.com", "other.example.com"):
            async with await connected(port, trusting(ca), name) as client:
                subject = client.writer.get_extra_info("peercert")["subject"][0][0][1]
                assert subject == ("shop" if name.startswith("shop") else "rest")
                spoofed = "X-Forwarded-Proto: http\r\nX-Forwarded-Client-Cert: Subject=me\r\n"
                await client.send(f"GET /a HTTP/1.1\r\nHost: {name}\r\n{spoofed}\r\n".encode())
                assert (await client.answer()).status == 200
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            await connected(port, trusting(ca), "example.com")
        assert log.lines()[0]["requested_server_name"] == "shop.example.com"
        assert sidecar.telemetry.refused_handshakes == {"edge-tls": 1}
        gauge = sidecar.telemetry.gauges["meshpy_edge_certificate_expiration_timestamp_seconds"]
        assert gauge > 0
    assert [each.headers("x-forwarded-proto") for each in app.requests] == [["https"]] * 2
    assert [each.headers("x-forwarded-client-cert") for each in app.requests] == [[]] * 2
    assert [each.headers("x-forwarded-for") for each in app.requests] == [[LOOPBACK]] * 2


async def test_a_request_for_another_host_than_the_handshake_was_for_is_misdirected(pki, ca, tmp_path):
    """Else a caller without a certificate would come to the host that demands one, by the name of another."""
    clients = WebCa(tmp_path, "clients")
    own = pair(ca.issue("both", "open.example.com", "closed.example.com"))
    open_, closed = (
        ServerTls(("open.example.com",), TlsMode.SIMPLE, (own,)),
        ServerTls(("closed.example.com",), TlsMode.MUTUAL, (own,), str(clients.path)),
    )
    port = free_port()
    async with (
        backend() as app,
        running(edge(app.port, IngressServer(port, APP, 443, (open_, closed))), pki, binds=EDGE),
        await connected(port, trusting(ca), "open.example.com") as client,
    ):
        for host, status in (
            ("open.example.com", 200),
            ("OPEN.example.com:443", 200),
            ("closed.example.com", 421),
            ("else.example.com", 404),
        ):
            await client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (await client.answer()).status == status
    assert len(app.requests) == 2


async def test_a_foreign_principal_is_in_no_namespace_of_the_mesh(pki, ca, tmp_path):
    """Its path may say /ns/shop/: only the mesh's own roots put anybody there."""
    clients = WebCa(tmp_path, "clients")
    tls = ServerTls(("*",), TlsMode.MUTUAL, (pair(ca.issue("a", "a.example.com")),), str(clients.path))
    rule = AuthorizationRule("rules[0]", (Source(namespaces=(Exact("shop"),)),))
    authorization = Authorization(
        baseline_external=frozenset({APP}),
        policies=(AuthorizationPolicy("shop/own", Action.ALLOW, (rule,)),),
    )
    own = clients.issue("partner", "spiffe://partner.org/ns/shop/sa/web")
    port = free_port()
    server = IngressServer(port, APP, 443, (tls,))
    async with (
        backend() as app,
        running(edge(app.port, server, authorization=authorization), pki, binds=EDGE),
        await connected(port, trusting(ca, own), "a.example.com") as client,
    ):
        assert (await client.get("/")).status == 403


async def test_http_2_is_spoken_where_the_caller_offers_it(pki, ca):
    server = IngressServer(free_port(), APP, 443, (
        ServerTls(("*",), TlsMode.SIMPLE, (pair(ca.issue("a", "a.example.com")),)),
    ))  # fmt: skip
    async with backend() as app, running(edge(app.port, server), pki, binds=EDGE):
        for offered, chosen in ((("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), ((), None)):
            context = trusting(ca, alpn=offered)
            async with await connected(server.port, context, "a.example.com") as client:
                handshake = client.writer.get_extra_info("ssl_object")
                assert handshake.selected_alpn_protocol() == chosen
                if chosen != "h2":
                    assert (await client.get("/x")).status == 200
                else:
                    await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                    assert (await client.reader.readexactly(9))[3] == 4  # SETTINGS


async def test_versions_below_the_lowest_are_refused(pki, ca):
    tls = ServerTls(
        ("*",), TlsMode.SIMPLE, (pair(ca.issue("a", "a.example.com")),), min_version=TlsVersion.TLSV1_3
    )
    port, old = free_port(), trusting(ca)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with (
        backend() as app,
        running(edge(app.port, IngressServer(port, APP, 443, (tls,))), pki, binds=EDGE),
    ):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connected(port, old, "a.example.com")
        async with await connected(port, trusting(ca), "a.example.com") as client:
            assert client.writer.get_extra_info("ssl_object").version() == "TLSv1.3"


async def test_a_callers_certificate_is_demanded_told_to_the_app_and_judged_by_policies(pki, ca, tmp_path):
    clients = WebCa(tmp_path, "clients")
    tls = ServerTls(("*",), TlsMode.MUTUAL, (pair(ca.issue("a", "a.example.com")),), str(clients.path))
    port = free_port()
    rules = (
        AuthorizationRule("rules[0]", (Source((Exact("partner.org/robot"),)),)),
        AuthorizationRule(
            "rules[1]",
            conditions=(Condition("request.headers[x-forwarded-client-cert]", (Suffix("DNS=alice.test"),)),),
        ),
    )
    authorization = Authorization(
        baseline_external=frozenset({APP}), policies=(AuthorizationPolicy("shop/who", Action.ALLOW, rules),)
    )
    robot = clients.issue("robot", "spiffe://partner.org/robot")
    alice = clients.issue("alice", "alice.test", subject='Alice "A", Ltd.\r\nX: y')
    mallory = clients.issue("mallory", "mallory.test")
    odd = clients.issue("odd", 'spiffe://partner.org/robot","policy":"x')  # no id, so nobody's
    server = IngressServer(port, APP, 443, (tls,))
    async with (
        backend() as app,
        running(edge(app.port, server, authorization=authorization), pki, binds=EDGE) as sidecar,
    ):
        spoofed = "X-Forwarded-Client-Cert: DNS=alice.test\r\n"
        for own, status in ((robot, 200), (alice, 200), (mallory, 403), (odd, 403)):
            async with await connected(port, trusting(ca, own), "a.example.com") as client:
                assert (await client.get("/", headers=spoofed)).status == status
        for own in (
            clients.issue("thief", "spiffe://mesh.test/ns/shop/sa/web"),
            clients.issue("thief2", "spiffe://MESH.test/ns/shop/sa/web", "alice.test"),
            clients.issue("thief3", "spiffe://mesh.test"),
        ):
            async with await connected(port, trusting(ca, own), "a.example.com") as client:
                assert await client.is_closed()
        for own in (
            None,
            ca.issue("foreign", "alice.test"),
            clients.issue("late", "alice.test", days=(-3, -1)),
        ):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                async with await connected(port, trusting(ca, own), "a.example.com") as client:
                    await client.get("/")
        assert sidecar.telemetry.refused_handshakes["claims-mesh-identity"] == 3
    told = [each.headers("x-forwarded-client-cert")[0] for each in app.requests]
    assert len(told) == 2
    assert told[0].endswith(';Subject="CN=robot";URI=spiffe://partner.org/robot')
    assert told[1].endswith(';Subject="CN=Alice \\\\"A\\\\"\\, Ltd.\\0d\\0aX: y";DNS=alice.test')


async def test_only_certificates_with_a_listed_name_are_let_in_and_some_may_come_without_one(
    pki, ca, tmp_path
):
    clients = WebCa(tmp_path, "clients")
    tls = ServerTls(
        ("*",),
        TlsMode.OPTIONAL_MUTUAL,
        (pair(ca.issue("a", "a.example.com")),),
        str(clients.path),
        ("alice.test",),
    )
    port = free_port()
    async with (
        backend() as app,
        running(edge(app.port, IngressServer(port, APP, 443, (tls,))), pki, binds=EDGE),
    ):
        for own in (None, clients.issue("alice", "alice.test")):
            async with await connected(port, trusting(ca, own), "a.example.com") as client:
                assert (await client.get("/")).status == 200
        async with await connected(
            port, trusting(ca, clients.issue("bob", "bob.test")), "a.example.com"
        ) as c:
            assert await c.is_closed()


async def test_plain_requests_are_sent_to_https_and_never_to_the_app(pki):
    port, odd = free_port(), free_port()
    async with (
        backend() as app,
        running(
            edge(app.port, IngressServer(port, APP, 80, (), 443), IngressServer(odd, APP, 81, (), 8443)),
            pki,
            binds=EDGE,
        ),
        await Client.connect(port) as client,
        await Client.connect(odd) as other,
    ):
        answer = await client.get("/a//b?x=1")
        assert (answer.status, answer.headers["location"]) == (301, "https://api/a//b?x=1")
        assert (await client.post("/p", b"body")).headers["location"] == "https://api/p"
        assert (await other.get("/")).headers["location"] == "https://api:8443/"
    assert not app.requests


async def test_tls_passes_by_its_server_name_beside_tls_that_ends(pki, ca):
    own = ca.issue("own", "own.example.com")

    async def upper(reader, writer):
        writer.write((await reader.readline()).upper())

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*own)
    passing = ServerTls(("own.example.com",), TlsMode.PASSTHROUGH)
    ending = ServerTls(("*",), TlsMode.SIMPLE, (pair(ca.issue("a", "a.example.com")),))
    port = free_port()
    async with (
        raw_server(upper, context) as secure,
        raw_server(upper) as plain,
        running(
            edge(secure, IngressServer(port, APP, 443, (passing,)), protocol=Protocol.TLS), pki, binds=EDGE
        ) as sidecar,
    ):
        async with await connected(port, trusting(ca), "own.example.com") as client:
            await client.send(b"hello\n")
            assert await client.reader.readline() == b"HELLO\n"
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            await connected(port, trusting(ca), "a.example.com")
        await sidecar.apply(edge(plain, IngressServer(port, APP, 443, (ending,)), protocol=Protocol.TCP))
        async with await connected(port, trusting(ca), "a.example.com") as client:
            await client.send(b"bytes\n")
            assert await client.reader.readline() == b"BYTES\n"


def _read(handshake: ssl.SSLObject) -> bytes:
    try:
        return handshake.read()
    except ssl.SSLWantReadError:
        return b""


async def test_a_hello_in_pieces_is_waited_for_and_one_that_is_none_ends_the_connection(pki, ca):
    tls = ServerTls(("*",), TlsMode.SIMPLE, (pair(ca.issue("a", "a.example.com")),))
    port = free_port()
    server = IngressServer(port, APP, 443, (tls,), proxy_protocol=True)
    async with backend() as app, running(edge(app.port, server), pki, binds=EDGE) as sidecar:
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        handshake = trusting(ca).wrap_bio(into, out, server_hostname="a.example.com")
        with pytest.raises(ssl.SSLWantReadError):
            handshake.do_handshake()
        async with await Client.connect(port) as client:
            first = header_v1(("203.0.113.9", 4711), (LOOPBACK, 443)) + out.read()
            for at in range(0, len(first), 150):
                await client.send(first[at : at + 150])
                await asyncio.sleep(0.01)
            while True:
                into.write(await client.reader.read(65536))
                try:
                    handshake.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    continue
            handshake.write(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
            await client.send(out.read())
            while not (said := _read(handshake)):
                into.write(await client.reader.read(65536))
            assert said.startswith(b"HTTP/1.1 200")
        async with await Client.connect(port) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
            assert await client.is_closed()
        assert sidecar.telemetry.refused_handshakes == {"edge-tls": 1}
        assert sidecar.listeners.capacity.open == 0
    assert [each.headers("x-forwarded-for") for each in app.requests] == [["203.0.113.9"]]


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda ca: ca.issue("a", "a.test", days=(-3, -1)), r"a\.crt: the certificate expired at"),
        (lambda ca: ca.issue("a", "a.test", days=(1, 2)), r"a\.crt: the certificate is not valid before"),
        (lambda ca: (ca.issue("a", "a.test")[0], ca.issue("b", "b.test")[1]), r"b\.key is not the key of"),
        (lambda ca: ca.issue("a", "a.test", passphrase="x"), r"a\.key: the key is encrypted"),
        (lambda ca: (ca.path, ca.folder / "none.key"), r"none\.key: No such file"),
        (lambda ca: (ca.issue("a", "a.test")[1],) * 2, r"a\.key: no certificate in PEM"),
    ],
)
async def test_a_certificate_that_cannot_be_used_opens_nothing(pki, ca, break_it, says):
    """Not the port, nor anything else of the sidecar: its task never becomes healthy, and the update ends."""
    port = free_port()
    tls = ServerTls(("a.test",), TlsMode.SIMPLE, (pair(break_it(ca)),))
    async with backend() as app:
        with pytest.raises(ConfigError, match=f"published port 443 stays closed.*{says}"):
            async with running(edge(app.port, IngressServer(port, APP, 443, (tls,))), pki, binds=EDGE):
                pass
        with pytest.raises(ConnectionError):
            await Client.connect(port)


async def test_new_files_are_served_and_bad_ones_leave_what_was(pki, ca):
    files = ca.issue("a", "a.example.com", subject="old")
    port = free_port()
    tls = ServerTls(("*",), TlsMode.SIMPLE, (pair(files),))

    async def subject() -> str:
        async with await connected(port, trusting(ca), "a.example.com") as client:
            return client.writer.get_extra_info("peercert")["subject"][0][0][1]

    async with backend() as app:
        snapshot = edge(app.port, IngressServer(port, APP, 443, (tls,)))
        async with running(snapshot, pki, binds=EDGE) as sidecar:
            assert await subject() == "old"
            ca.issue("a", "a.example.com", subject="new")
            await sidecar.apply(snapshot)
            assert await subject() == "new"
            ca.issue("a", "a.example.com", days=(-3, -1))
            with pytest.raises(ConfigError):
                await sidecar.apply(snapshot)
            assert await subject() == "new"


async def test_a_change_of_what_callers_must_bring_cuts_those_who_are_in(pki, ca, tmp_path):
    clients = WebCa(tmp_path, "clients")
    own = pair(ca.issue("a", "a.example.com"))
    port = free_port()
    before = IngressServer(port, APP, 443, (ServerTls(("*",), TlsMode.SIMPLE, (own,)),))
    after = IngressServer(port, APP, 443, (ServerTls(("*",), TlsMode.MUTUAL, (own,), str(clients.path)),))
    async with (
        backend() as app,
        running(edge(app.port, before), pki, binds=EDGE) as sidecar,
        await connected(port, trusting(ca), "a.example.com") as client,
    ):
        assert (await client.get("/")).status == 200
        await sidecar.apply(edge(app.port, after))
        assert await client.is_closed()
