"""JWTs through real sidecars: what the app receives, who gets 401 or 403, new keys, live connections."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from meshpy.model.authn import JwtRule, TokenHeader
from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Condition,
    Source,
)
from meshpy.model.endpoint import Endpoint
from meshpy.model.match import Exact, Present
from proxy.series import prometheus_text
from tests.helpers.backends import backend, raw_server
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    WEB,
    Client,
    LogLines,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    running,
)
from tests.helpers.tokens import ISSUER, claims, jwks, key, token

RULE = JwtRule(
    "RequestAuthentication shop/jwt",
    "jwtRules[0]",
    ISSUER,
    jwks=jwks(key()),
    from_headers=(TokenHeader("authorization", "Bearer "),),
    from_params=("access_token",),
    claim_headers=(("x-jwt-sub", ("sub",)),),
)


def bearer(text: str) -> str:
    return f"Authorization: Bearer {text}\r\n"


def demand(*conditions: Condition) -> AuthorizationPolicy:
    source = Source(request_principals=(Present(),))
    rule = AuthorizationRule("rules[0]", (source,), (), conditions)
    return AuthorizationPolicy("AuthorizationPolicy shop/jwt-only", Action.ALLOW, (rule,))


def callee(
    app_port: int, *policies: AuthorizationPolicy, rule: JwtRule = RULE, port: int = 80, ingress=False
):
    auth = Authorization(
        policies=policies, baseline=frozenset({WEB}), baseline_external=frozenset({port} if ingress else ())
    )
    snapshot = inbound_snapshot(port, (Endpoint(LOOPBACK, app_port),), authorization=auth, ingress=ingress)
    return replace(snapshot, jwt=(rule,))


@contextlib.asynccontextmanager
async def pair(pki, snapshot, log: LogLines | None = None):
    port, mesh_port = free_port(), free_port()
    extra = {"log": log.log} if log else {}
    async with (
        running(snapshot, pki, mesh_port=mesh_port, **extra) as api,
        running(outbound_snapshot(port, {"c": mesh_cluster(mesh_port)}), pki),
        await Client.connect(port) as client,
    ):
        yield client, api


async def test_the_app_gets_the_claims_and_never_the_token_or_a_forged_claim(pki):
    async with backend() as app, pair(pki, callee(app.port, demand())) as (client, _):
        for _ in range(2):
            forged = "X-Jwt-Sub: root\r\nx_jwt_sub: root\r\n"
            assert (await client.get("/a", headers=bearer(token(key())) + forged)).status == 200
    for seen in app.requests:
        assert seen.headers("authorization") == []
        assert seen.headers("x-jwt-sub") == ["jane"]
        assert seen.headers("x_jwt_sub") == []


async def test_without_a_token_a_forged_claim_is_dropped_all_the_same(pki):
    async with backend() as app, pair(pki, callee(app.port)) as (client, _):
        assert (await client.get("/", headers="X-Jwt-Sub: root\r\n")).status == 200
    assert app.requests[0].headers("x-jwt-sub") == []


async def test_a_claim_cannot_be_forged_in_a_trailer(pki):
    """Servers that merge trailers into the head would believe it."""
    async with backend() as app, pair(pki, callee(app.port, demand())) as (client, _):
        head = f"POST /a HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n{bearer(token(key()))}\r\n"
        trailers = "X-Jwt-Sub: root\r\nx_jwt_sub: root\r\nX-Sum: kept\r\n\r\n"
        await client.send((head + "1\r\na\r\n0\r\n" + trailers).encode())
        assert (await client.answer()).status == 200
    assert b"X-Sum: kept" in app.raw
    assert b"root" not in app.raw


async def test_a_missing_token_is_for_policies_to_refuse_and_a_wrong_one_is_401(pki):
    log = LogLines()
    async with backend() as app, pair(pki, callee(app.port, demand()), log) as (client, api):
        missing = await client.get()
        assert missing.status == 403
        assert missing.headers["x-meshpy-denied-by"] == "AuthorizationPolicy shop/jwt-only"
        wrong = await client.get("/", headers=bearer("a.b.c"))
        assert wrong.status == 401
        assert wrong.headers["x-meshpy-denied-by"] == "RequestAuthentication shop/jwt jwtRules[0]"
        challenge = wrong.headers["www-authenticate"]
        assert challenge.startswith('Bearer realm="api.shop", error="invalid_token", error_description="')
        expired = await client.get("/", headers=bearer(token(key(), claims(exp=time.time() - 100))))
        assert expired.status == 401
        assert b"the token is expired" in expired.body
        unsigned = token(key(), header={"alg": "none"}).rpartition(".")[0] + "."
        assert (await client.get("/", headers=bearer(unsigned))).status == 401
        metrics = prometheus_text(api.telemetry)
        lines = log.lines()
    assert app.connections == 0
    line = 'stage="jwt",policy="RequestAuthentication shop/jwt",rule="jwtRules[0]",action="deny"} 3'
    assert line in metrics
    assert [(each["response_code"], each["stage"]) for each in lines] == [(403, "allow")] + [(401, "jwt")] * 3
    assert lines[2]["response_code_details"] == "jwt_authn_access_denied{the_token_is_expired}"


async def test_a_token_for_others_is_403_and_claims_decide(pki):
    rule = replace(RULE, audiences=("api",))
    groups = Condition("request.auth.claims[realm][groups]", (Exact("ops"),))
    async with backend() as app, pair(pki, callee(app.port, demand(groups), rule=rule)) as (client, _):
        for payload, status in (
            (claims(aud="web"), 403),
            (claims(aud="api"), 403),
            (claims(aud=["x", "api"], realm={"groups": ["dev"]}), 403),
            (claims(aud=["x", "api"], realm={"groups": ["dev", "ops"]}), 200),
        ):
            for _ in range(2):  # the second answer comes from the connection's memory
                answer = await client.get("/", headers=bearer(token(key(), payload)))
                assert answer.status == status, payload
    assert len(app.requests) == 2


async def test_a_stranger_learns_neither_policy_nor_issuers(pki):
    port = free_port()
    async with backend() as app:
        snapshot = callee(app.port, port=port, ingress=True)
        async with (
            running(snapshot, pki, mesh_port=free_port(), binds={"edge": ("127.0.0.3",)}),
            await Client.connect(port, "127.0.0.3") as client,
        ):
            answer = await client.get("/", headers=bearer(token(key(), claims(iss="https://evil"))))
            good = await client.get("/", headers=bearer(token(key())))
    assert (answer.status, good.status) == (401, 200)
    assert answer.body == b"Jwt verification fails: the token's issuer is not accepted here\n"
    assert "x-meshpy-denied-by" not in answer.headers
    assert ISSUER not in str(answer.headers)


async def test_a_token_in_the_query_is_taken_out_and_never_logged(pki):
    log = LogLines()
    async with backend() as app, pair(pki, callee(app.port, demand()), log) as (client, api):
        text = token(key())
        assert (await client.get(f"/a?x=1&access_token={text}&y=2")).status == 200
        assert (await client.get(f"/a?access_token={text}")).status == 200
        assert (await client.get("/a?access_token=junk&x=1")).status == 401
        await api.apply(replace(callee(app.port, demand(), rule=replace(RULE, forward=True)), version="f"))
        assert (await client.get(f"/a?access_token={text}")).status == 200
        shown = [line["path"] for line in log.lines()]
    assert [seen.target for seen in app.requests] == ["/a?x=1&y=2", "/a", f"/a?access_token={text}"]
    assert shown == ["/a?x=REDACTED&y=REDACTED", "/a", "/a?x=REDACTED", "/a"]


async def test_keys_are_replaced_under_a_live_connection(pki):
    old, new = key("ES256", "old"), key("ES256", "new")
    async with backend() as app:
        first = callee(app.port, demand(), rule=replace(RULE, jwks=jwks(old)))
        async with pair(pki, first) as (client, api):

            async def statuses() -> list[int]:
                answers = [await client.get("/", headers=bearer(token(each))) for each in (old, new)]
                return [answer.status for answer in answers]

            assert await statuses() == [200, 401]
            for version, keys, expected in (
                ("both", (old, new), [200, 200]),
                ("new", (new,), [401, 200]),
                ("none", (), [401, 401]),
            ):
                rule = replace(RULE, jwks=jwks(*keys) if keys else "")
                await api.apply(replace(first, version=version, jwt=(rule,)))
                assert await statuses() == expected


async def test_verified_tokens_are_remembered_until_keys_or_rules_change(pki):
    async with backend() as app:
        first = callee(app.port, demand())
        async with pair(pki, first) as (client, api):
            assert (await client.get("/", headers=bearer(token(key())))).status == 200
            before = api.live.value.authenticator
            await api.apply(replace(first, version="same"))
            assert api.live.value.authenticator is before
            await api.apply(replace(first, version="other", jwt=(replace(RULE, audiences=("x",)),)))
            assert api.live.value.authenticator is not before
            assert (await client.get("/", headers=bearer(token(key())))).status == 403


async def test_a_websocket_ends_when_its_token_counts_no_longer(pki):
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(switching)
        while data := await reader.read(100):
            writer.write(data.upper())

    async with raw_server(serve) as app:
        first = callee(app, demand())
        async with pair(pki, first) as (client, api):
            upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n" + bearer(token(key()))
            await client.send(f"GET /ws HTTP/1.1\r\nHost: api\r\n{upgrade}\r\n".encode())
            assert (await client.head())[0] == 101
            await client.send(b"a")
            assert await client.reader.readexactly(1) == b"A"
            await api.apply(replace(first, version="same"))
            await client.send(b"b")
            assert await client.reader.readexactly(1) == b"B"
            await api.apply(replace(first, version="cut", jwt=(replace(RULE, jwks=jwks(key("ES256", "n"))),)))
            assert await client.is_closed()
