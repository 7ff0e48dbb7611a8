"""Tokens and CUSTOM over HTTP/2: gRPC calls of the grpcio library are judged as requests of HTTP/1.1 are."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from meshpy.model.authn import JwtRule, TokenHeader
from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Operation,
    Source,
)
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.ext_authz import BodyCheck, ExtAuthz
from meshpy.model.match import Exact, Prefix, Present
from tests.helpers.backends import backend, ok
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    WEB,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    plain_cluster,
    running,
)
from tests.helpers.tokens import ISSUER, jwks, key, token

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from tests.helpers.grpc_calls import SERVICE, Failed, channel, grpc_app, tried  # noqa: E402

CLUSTER = "outbound|9000||authz.shop"
JWT = JwtRule(
    "RequestAuthentication shop/jwt",
    "jwtRules[0]",
    ISSUER,
    jwks=jwks(key()),
    from_headers=(TokenHeader("authorization", "Bearer "),),
    claim_headers=(("x-sub", ("sub",)),),
)


@contextlib.asynccontextmanager
async def pair(pki, app_port, *policies, jwt=(), providers=(), authz_port=1):
    port, mesh_port = free_port(), free_port()
    auth = Authorization(policies=policies, baseline=frozenset({WEB}))
    inbound = inbound_snapshot(
        50051, (Endpoint(LOOPBACK, app_port),), protocol=Protocol.GRPC, authorization=auth
    )
    clusters = {**inbound.clusters, CLUSTER: plain_cluster(authz_port, name=CLUSTER)}
    inbound = replace(inbound, clusters=clusters, jwt=jwt, providers=providers)
    cluster = mesh_cluster(mesh_port, 50051, protocol=Protocol.GRPC)
    async with (
        running(inbound, pki, mesh_port=mesh_port),
        running(outbound_snapshot(port, {"c": cluster}), pki),
    ):
        yield port


def call(port: int, request: bytes = b"hi", method: str = "Echo", **metadata: str) -> bytes | Failed:
    pairs = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    with channel(port) as made:
        return tried(lambda: made.unary_unary(SERVICE + method)(request, metadata=pairs, timeout=10))


def upload(port: int, parts: int, size: int) -> bytes | Failed:
    with channel(port) as made:
        chunks = iter([bytes(size)] * parts)
        return tried(lambda: made.stream_unary(SERVICE + "Upload")(chunks, timeout=10))


async def test_a_token_is_judged_taken_out_and_told(pki):
    allow = AuthorizationPolicy(
        "AuthorizationPolicy shop/p",
        Action.ALLOW,
        (AuthorizationRule("rules[0]", (Source(request_principals=(Present(),)),)),),
    )
    with grpc_app() as app:
        async with pair(pki, app.port, allow, jwt=(JWT,)) as port:
            good = {"authorization": f"Bearer {token(key())}", "x_sub": "root"}
            assert await asyncio.to_thread(lambda: call(port, **good)) == b"re:hi"
            wrong = await asyncio.to_thread(lambda: call(port, authorization="Bearer junk"))
            missing = await asyncio.to_thread(call, port)
    assert app.metadata["x-sub"] == "jane"
    assert "authorization" not in app.metadata
    assert isinstance(wrong, Failed)
    assert isinstance(missing, Failed)
    assert wrong.code is grpc.StatusCode.UNAUTHENTICATED
    assert missing.code is grpc.StatusCode.PERMISSION_DENIED
    assert app.calls == ["Echo"]


def ask(provider: ExtAuthz) -> AuthorizationPolicy:
    rule = AuthorizationRule("rules[0]", operations=(Operation(paths=(Prefix("/shop.Catalog/"),)),))
    return AuthorizationPolicy("AuthorizationPolicy shop/ask", Action.CUSTOM, (rule,), provider=provider.name)


async def test_a_provider_decides_on_calls(pki):
    provider = ExtAuthz("opa", CLUSTER, to_upstream=(Exact("x-user"),))
    answers = {"status": "200 OK"}
    with grpc_app() as app:
        async with (
            backend(lambda _request: ok(b"", answers["status"], "X-User: jane\r\n")) as authz,
            pair(pki, app.port, ask(provider), providers=(provider,), authz_port=authz.port) as port,
        ):
            assert await asyncio.to_thread(call, port) == b"re:hi"
            assert app.metadata["x-user"] == "jane"
            assert authz.requests[0].line == "POST /shop.Catalog/Echo HTTP/1.1"
            answers["status"] = "403 Forbidden"
            refused = await asyncio.to_thread(call, port)
            answers["status"] = "500 Oops"
            failed = await asyncio.to_thread(call, port)
    assert isinstance(refused, Failed)
    assert isinstance(failed, Failed)
    assert refused.code is failed.code is grpc.StatusCode.PERMISSION_DENIED
    assert app.calls == ["Echo"]


async def test_streams_wait_for_the_provider_and_lose_nothing(pki):
    """With content that goes along, and without: 100 streams of one connection, and one of 3 MB."""
    for body in (None, BodyCheck(10_000, allow_partial=True)):
        provider = ExtAuthz("opa", CLUSTER, body=body, timeout_s=5.0)

        async def slow(_request):
            await asyncio.sleep(0.02)
            return ok(b"")

        with grpc_app() as app:
            async with (
                backend(slow) as authz,
                pair(pki, app.port, ask(provider), providers=(provider,), authz_port=authz.port) as port,
            ):

                def many(port: int = port) -> list[bytes]:
                    with channel(port) as made:
                        started = [made.unary_unary(SERVICE + "Echo").future(b"%d" % n) for n in range(100)]
                        return [each.result(timeout=10) for each in started]

                assert await asyncio.to_thread(many) == [b"re:%d" % number for number in range(100)]
                assert await asyncio.to_thread(upload, port, 100, 30_000) == b"3000000"
                assert len(authz.requests) == 101
                if body is not None:
                    assert len(authz.requests[-1].body) == 10_000
