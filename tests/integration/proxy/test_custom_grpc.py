"""CUSTOM over gRPC: a grpcio server answers envoy.service.auth.v3 checks through two sidecars."""

from __future__ import annotations

import contextlib
from concurrent import futures
from dataclasses import dataclass, field, replace

import grpc
import pytest

from meshpy.model.authz import Action, Authorization, AuthorizationPolicy, AuthorizationRule
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.ext_authz import BodyCheck, CheckApi, ExtAuthz
from meshpy.model.names import ServiceName
from tests.helpers.backends import backend
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    API,
    LOOPBACK,
    WEB,
    Client,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    running,
)

AUTHZ = ServiceName("shop", "authz")
CLUSTER = "outbound|9001||authz.shop"
PROVIDER = ExtAuthz("opa", CLUSTER, CheckApi.GRPC, "authz.shop:9001")
ASK = AuthorizationPolicy(
    "AuthorizationPolicy shop/ask", Action.CUSTOM, (AuthorizationRule("rules[0]"),), provider="opa"
)


# -- protobuf as the specification says it, written apart from the sidecar's


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + varint(value // 128)


def message(*fields: tuple[int, bytes | str | int]) -> bytes:
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number * 8) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number * 8 + 2) + varint(len(data)) + data
    return out


def read(data: bytes) -> dict[int, list[bytes | int]]:
    found: dict[int, list[bytes | int]] = {}

    def number() -> int:
        nonlocal data
        value = shift = 0
        while True:
            byte, data = data[0], data[1:]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while data:
        key = number()
        if key & 7 == 0:
            found.setdefault(key >> 3, []).append(number())
        else:
            size = number()
            found.setdefault(key >> 3, []).append(data[:size])
            data = data[size:]
    return found


def option(name: str, value: str, *, append: bool = False) -> bytes:
    return message((1, message((1, name), (2, value))), *(((2, message((1, 1))),) if append else ()))


def ok(*fields: tuple[int, bytes | str | int]) -> bytes:
    return message((1, message()), (3, message(*fields)))


def denied(status: int, body: str, *options: bytes) -> bytes:
    inner = message((1, message((1, status))), *((2, each) for each in options), (3, body))
    return message((1, message((1, 7))), (2, inner))


@dataclass
class Authorizer(grpc.GenericRpcHandler):
    """Answers every check with `answer`, or fails the call with it."""

    answer: bytes | grpc.StatusCode = field(default_factory=ok)
    asked: list[bytes] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    port: int = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        self.methods.append(details.method)
        return grpc.unary_unary_rpc_method_handler(self._check)

    def _check(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.asked.append(request)
        if isinstance(self.answer, bytes):
            return self.answer
        context.abort(self.answer, "no")
        raise AssertionError

    @property
    def http(self) -> dict[int, list[bytes | int]]:
        """The HttpRequest of the last question."""
        attributes = read(read(self.asked[-1])[1][0])
        return read(read(attributes[4][0])[2][0])

    @property
    def headers(self) -> dict[str, str]:
        entries = [read(each) for each in self.http[3]]
        return {each[1][0].decode(): each.get(2, [b""])[0].decode() for each in entries}


@contextlib.contextmanager
def serving(one: Authorizer):
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(one,))
    one.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield one
    finally:
        server.stop(0).wait()


@contextlib.asynccontextmanager
async def mesh(pki, provider: ExtAuthz = PROVIDER):
    door, api_port, authz_port = free_port(), free_port(), free_port()
    with serving(Authorizer()) as authz:
        async with backend() as app:
            auth = Authorization(policies=(ASK,), baseline=frozenset({WEB}))
            inbound = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),), authorization=auth)
            cluster = replace(mesh_cluster(authz_port, 9001, AUTHZ, Protocol.GRPC), name=CLUSTER)
            snapshot = replace(
                inbound, clusters={**inbound.clusters, CLUSTER: cluster}, providers=(provider,)
            )
            asked = inbound_snapshot(
                9001,
                (Endpoint(LOOPBACK, authz.port),),
                protocol=Protocol.GRPC,
                authorization=Authorization(baseline=frozenset({API})),
            )
            asked = replace(asked, workload=replace(asked.workload, name=AUTHZ))
            async with (
                running(snapshot, pki, mesh_port=api_port),
                running(asked, pki, mesh_port=authz_port),
                running(outbound_snapshot(door, {"c": mesh_cluster(api_port)}), pki),
                await Client.connect(door) as client,
            ):
                yield client, app, authz


async def test_a_check_tells_who_asks_for_what(pki):
    async with mesh(pki) as (client, app, authz):
        for _ in range(3):
            assert (await client.get("/a?b=c", headers="X-A: 1\r\nX-A: 2\r\n")).status == 200
        assert authz.methods == ["/envoy.service.auth.v3.Authorization/Check"] * 3
        http, headers = authz.http, authz.headers
        attributes = read(read(authz.asked[-1])[1][0])
    assert (http[2], http[4], http[5]) == ([b"GET"], [b"/a?b=c"], [b"api"])
    assert (headers["x-a"], headers[":method"], headers[":path"]) == ("1,2", "GET", "/a?b=c")
    assert headers["x-forwarded-client-cert"].endswith("URI=spiffe://mesh.test/ns/shop/sa/web")
    assert read(attributes[1][0])[4] == [b"spiffe://mesh.test/ns/shop/sa/web"]
    assert read(attributes[2][0])[4] == [b"spiffe://mesh.test/ns/shop/sa/api"]
    assert len(app.requests) == 3


async def test_an_answer_that_allows_changes_request_and_response(pki):
    async with mesh(pki) as (client, app, authz):
        authz.answer = ok(
            (2, option("x-user", "jane")),
            (2, option("x-tag", "two", append=True)),
            (2, option("X-Forwarded-Client-Cert", "forged")),
            (5, "x-secret"),
            (6, option("x-seen", "yes")),
        )
        answer = await client.get("/", headers="X-User: root\r\nX-Tag: one\r\nX-Secret: s\r\n")
    seen = app.requests[0]
    assert (answer.status, answer.headers["x-seen"]) == (200, "yes")
    assert seen.headers("x-user") == ["jane"]
    assert seen.headers("x-tag") == ["one", "two"]
    assert seen.headers("x-secret") == []
    assert "forged" not in seen.head.decode()


async def test_a_refusal_is_the_provider_s_own_answer(pki):
    async with mesh(pki) as (client, app, authz):
        authz.answer = denied(
            401, "who?", option("www-authenticate", "Bearer"), option("content-type", "text/x")
        )
        answer = await client.get("/")
        assert (answer.status, answer.body) == (401, b"who?")
        assert (answer.headers["www-authenticate"], answer.headers["content-type"]) == ("Bearer", "text/x")
        authz.answer = message((1, message((1, 7))))
        assert (await client.get("/")).status == 403
    assert app.connections == 0


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (grpc.StatusCode.UNAVAILABLE, b"status 14"),
        (grpc.StatusCode.UNIMPLEMENTED, b"status 12"),
        (b"\xff\xff\xff", b"cannot be read"),
        (message((3, b"\x0a\xff")), b"cannot be read"),
        (ok((2, option("a b", "c"))), b"cannot be read"),
        (ok((2, option("x-a", "b\r\nx-admin: 1"))), b"cannot be read"),
    ],
)
async def test_what_is_no_answer_fails_closed_unless_it_is_said_otherwise(pki, answer, says):
    async with mesh(pki) as (client, app, authz):
        authz.answer = answer
        refused = await client.get("/")
        assert (refused.status, says in refused.body) == (403, True), refused.body
        assert app.connections == 0
    async with mesh(pki, replace(PROVIDER, fail_open=True)) as (client, app, authz):
        authz.answer = answer
        assert (await client.get("/")).status == 200


@pytest.mark.parametrize("as_bytes", [False, True])
async def test_content_goes_along(pki, as_bytes):
    provider = replace(PROVIDER, body=BodyCheck(1000, as_bytes=as_bytes))
    async with mesh(pki, provider) as (client, app, authz):
        body = b"caf\xe9" if as_bytes else "café".encode()
        assert (await client.post("/", body)).status == 200
        assert authz.http[12 if as_bytes else 11] == [body]
        assert authz.http[9] == [len(body)]
        assert authz.headers["x-envoy-auth-partial-body"] == "false"
        assert (await client.post("/", b"x" * 1001)).status == 413
    assert len(app.requests) == 1
