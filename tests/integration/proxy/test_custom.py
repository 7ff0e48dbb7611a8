"""CUSTOM through real sidecars: the provider is asked over mTLS, before DENY and ALLOW."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace

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
from meshpy.model.ext_authz import BodyCheck, ExtAuthz
from meshpy.model.match import Exact, Prefix, Suffix
from meshpy.model.names import ServiceName
from proxy.series import prometheus_text
from tests.helpers.backends import Backend, Received, backend, ok
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    API,
    LOOPBACK,
    WEB,
    Client,
    LogLines,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    running,
)

AUTHZ = ServiceName("shop", "authz")
CLUSTER = "outbound|9000||authz.shop"
PROVIDER = ExtAuthz("opa", CLUSTER)
POLICY = "AuthorizationPolicy shop/ask"


def rule(*operations: Operation, when=()) -> AuthorizationRule:
    return AuthorizationRule("rules[0]", operations=operations, conditions=when)


ASK = AuthorizationPolicy(
    POLICY, Action.CUSTOM, (rule(Operation(paths=(Prefix("/secret"),))),), provider="opa"
)


@dataclass
class Mesh:
    """web → api → app, and api → authz → provider."""

    client: Client
    app: Backend
    provider: Backend
    api: object
    snapshot: object
    log: LogLines = field(default_factory=LogLines)


@contextlib.asynccontextmanager
async def mesh(pki, reply, *policies, provider=PROVIDER, allowed=frozenset({API})):
    log = LogLines()
    policies = policies or (ASK,)
    door, api_port, authz_port = free_port(), free_port(), free_port()
    async with backend() as app, backend(reply) as authz:
        inbound = inbound_snapshot(
            80,
            (Endpoint(LOOPBACK, app.port),),
            authorization=Authorization(policies=policies, baseline=frozenset({WEB})),
        )
        cluster = mesh_cluster(authz_port, 9000, AUTHZ)
        snapshot = replace(
            inbound,
            clusters={**inbound.clusters, CLUSTER: cluster},
            providers=(provider,) if provider else (),
        )
        asked = inbound_snapshot(
            9000, (Endpoint(LOOPBACK, authz.port),), authorization=Authorization(baseline=allowed)
        )
        asked = replace(asked, workload=replace(asked.workload, name=AUTHZ))
        async with (
            running(snapshot, pki, mesh_port=api_port, log=log.log) as api,
            running(asked, pki, mesh_port=authz_port),
            running(outbound_snapshot(door, {"c": mesh_cluster(api_port)}), pki),
            await Client.connect(door) as client,
        ):
            yield Mesh(client, app, authz, api, snapshot, log)


def says(status: str, headers: str = "", body: bytes = b""):
    return lambda _request: ok(body, status, headers)


async def test_only_what_a_rule_meets_is_asked_and_200_lets_it_pass(pki):
    async with mesh(pki, says("200 OK")) as m:
        assert (await m.client.get("/open")).status == 200
        assert m.provider.requests == []
        for _ in range(3):
            assert (await m.client.get("/secret/x?a=b")).status == 200
        assert len(m.provider.requests) == 3
        assert m.provider.connections == 1
        metrics = prometheus_text(m.api.telemetry)
    asked = m.provider.requests[0]
    assert asked.line == "GET /secret/x?a=b HTTP/1.1"
    assert asked.headers("host") == ["api"]
    assert len(m.app.requests) == 4
    assert f'stage="custom",policy="{POLICY}",rule="rules[0]",action="allow"' in metrics


async def test_the_question_carries_what_the_document_names_and_nothing_forged(pki):
    provider = replace(
        PROVIDER,
        path_prefix="/check",
        request_headers=(Exact("x-user"), Prefix("x-ctx-"), Suffix("-cert")),
        added_headers=(("x-mesh", "yes"),),
    )
    async with mesh(pki, says("200 OK"), provider=provider) as m:
        headers = (
            "Authorization: Bearer t\r\nX-User: a\r\nX-User: b\r\nX-Ctx-1: c\r\nX-Other: d\r\nCookie: e\r\n"
            "X-Forwarded-Client-Cert: URI=spiffe://mesh.test/ns/shop/sa/root\r\n"
        )
        assert (await m.client.post("/secret", b"body", headers=headers)).status == 200
    asked = m.provider.requests[0]
    assert asked.line == "POST /check/secret HTTP/1.1"
    assert (asked.body, asked.headers("content-length")) == (b"", ["0"])
    assert asked.headers("authorization") == ["Bearer t"]
    assert asked.headers("x-user") == ["a", "b"]
    assert (asked.headers("x-ctx-1"), asked.headers("x-mesh")) == (["c"], ["yes"])
    assert asked.headers("x-other") == asked.headers("cookie") == []
    # The provider's own sidecar says who asks; what the client forged is gone.
    assert [value.rpartition("/")[2] for value in asked.headers("x-forwarded-client-cert")] == ["api"]
    assert m.app.requests[0].body == b"body"


async def test_a_refusal_is_the_provider_s_own_answer(pki):
    reply = says(
        "302 Found", "Location: https://login\r\nSet-Cookie: a=b\r\nContent-Type: text/html\r\n", b"<p>"
    )
    async with mesh(pki, reply) as m:
        answer = await m.client.get("/secret")
        assert (answer.status, answer.body) == (302, b"<p>")
        assert answer.headers["location"] == "https://login"
        assert answer.headers["set-cookie"] == "a=b"
        assert answer.headers["content-type"] == "text/html"
        assert answer.headers["x-meshpy-denied-by"] == f"{POLICY} rules[0]"
        line = m.log.lines()[0]
    assert m.app.connections == 0
    assert (line["stage"], line["policy"], line["rule"]) == ("custom", POLICY, "rules[0]")
    assert (line["response_flags"], line["response_code_details"]) == ("UAEX", "ext_authz_denied")
    chosen = replace(PROVIDER, to_client_on_deny=(Prefix("x-why"),))
    async with mesh(
        pki, says("401 No", "X-Why: a\r\nX-Else: b\r\nWWW-Authenticate: Bearer\r\n"), provider=chosen
    ) as m:
        answer = await m.client.get("/secret")
    assert (answer.status, answer.headers["x-why"], answer.headers["www-authenticate"]) == (
        401,
        "a",
        "Bearer",
    )
    assert "x-else" not in answer.headers


async def test_an_answer_that_allows_changes_request_and_response(pki):
    provider = replace(
        PROVIDER, to_upstream=(Exact("x-user"), Prefix("x-role-")), to_client_on_allow=(Exact("x-seen"),)
    )
    headers = (
        "X-User: jane\r\nX-Role-A: 1\r\nX-Role-A: 2\r\nX-Seen: yes\r\nX-Private: no\r\n"
        "X-Envoy-Auth-Headers-To-Remove: x-secret, x-role-b\r\nX-Meshpy-Not-Sent: 1\r\n"
    )
    async with mesh(pki, says("200 OK", headers), provider=provider) as m:
        forged = "X-User: root\r\nX-Secret: s\r\nX-Role-B: root\r\n"
        forged += "X_User: root\r\nX_Role-B: root\r\nX_Other: o\r\n"
        answer = await m.client.get("/secret", headers=forged)
    seen = m.app.requests[0]
    assert answer.status == 200
    assert answer.headers["x-seen"] == "yes"
    assert seen.headers("x-user") == ["jane"]
    assert seen.headers("x-role-a") == ["1", "2"]
    assert seen.headers("x-secret") == seen.headers("x-role-b") == seen.headers("x-private") == []
    assert seen.headers("x-meshpy-not-sent") == []
    assert seen.headers("x_user") == seen.headers("x_role-b") == []
    assert seen.headers("x_other") == ["o"]


async def test_the_provider_is_asked_before_deny_and_allow_which_see_what_it_added(pki):
    provider = replace(PROVIDER, to_upstream=(Exact("x-user"),))
    jane = Condition("request.headers[x-user]", (Exact("jane"),))
    allow = AuthorizationPolicy("AuthorizationPolicy shop/jane", Action.ALLOW, (rule(when=(jane,)),))
    for user, status in (("jane", 200), ("root", 403)):
        reply = says("200 OK", f"X-User: {user}\r\n")
        async with mesh(pki, reply, ASK, allow, provider=provider) as m:
            assert (await m.client.get("/secret", headers="X-User: jane\r\n")).status == status
            assert len(m.provider.requests) == 1
    deny = AuthorizationPolicy(
        "AuthorizationPolicy shop/no", Action.DENY, (rule(Operation(methods=(Exact("PUT"),))),)
    )
    async with mesh(pki, says("302 Found", "Location: /login\r\n"), ASK, deny) as m:
        assert (await m.client.get("/secret", method="PUT")).status == 302


async def hang(_request: Received) -> bytes | None:
    await asyncio.sleep(5)
    return None


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (says("500 Oops"), b"it answered 500"),
        (says("503 Busy"), b"it answered 503"),
        (lambda _request: None, b"it answered 503"),
        (lambda _request: b"nonsense\r\n\r\n", b"it answered 502"),
        (says("200 OK", body=b"x" * 70_000), b"longer than 65536"),
        (hang, b"no answer in time"),
    ],
)
async def test_an_outage_fails_closed_unless_it_is_said_otherwise(pki, reply, reason):
    provider = replace(PROVIDER, timeout_s=0.3, error_status=503)
    async with mesh(pki, reply, provider=provider) as m:
        answer = await m.client.get("/secret")
        assert answer.status == 503
        assert reason in answer.body
        assert m.app.connections == 0
        assert (await m.client.get("/open")).status == 200
    async with mesh(pki, reply, provider=replace(provider, fail_open=True)) as m:
        assert (await m.client.get("/secret")).status == 200
        assert 'rule="fail-open",action="allow"} 1' in prometheus_text(m.api.telemetry)


async def test_a_provider_whose_sidecar_refuses_the_question_is_an_outage(pki):
    async with mesh(pki, says("200 OK"), allowed=frozenset()) as m:
        answer = await m.client.get("/secret")
    assert answer.status == 403
    assert b"its sidecar refused the question" in answer.body
    assert m.provider.requests == []


async def test_a_provider_that_is_not_defined_refuses(pki):
    async with mesh(pki, says("200 OK"), provider=None) as m:
        answer = await m.client.get("/secret")
    assert answer.status == 403
    assert b"not defined" in answer.body


@pytest.mark.parametrize("chunked", [False, True])
async def test_content_goes_along_within_its_limit_and_reaches_the_app_whole(pki, chunked):
    provider = replace(PROVIDER, body=BodyCheck(100_000))

    async def post(client: Client, body: bytes):
        if not chunked:
            return await client.post("/secret", body)
        head = b"POST /secret HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n"
        parts = [body[start : start + 7000] for start in range(0, len(body), 7000)]
        await client.send(
            head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        )
        return await client.answer()

    async with mesh(pki, says("200 OK"), provider=provider) as m:
        for size in (10, 70_000, 100_000):
            body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
            assert (await post(m.client, body)).status == 200
            assert m.provider.requests[-1].body == body
            assert m.provider.requests[-1].headers("x-envoy-auth-partial-body") == ["false"]
            assert m.app.requests[-1].body == body
        count = len(m.app.requests)
        answer = await post(m.client, b"x" * 100_001)
        assert answer.status == 413
    assert len(m.app.requests) == count
    partial = replace(PROVIDER, body=BodyCheck(1000, allow_partial=True))
    async with mesh(pki, says("200 OK"), provider=partial) as m:
        assert (await post(m.client, b"y" * 200_000)).status == 200
        assert m.provider.requests[0].body == b"y" * 1000
        assert m.provider.requests[0].headers("x-envoy-auth-partial-body") == ["true"]
        assert m.app.requests[0].body == b"y" * 200_000


async def test_a_client_that_waits_for_100_is_told_to_go_on(pki):
    async with mesh(pki, says("200 OK"), provider=replace(PROVIDER, body=BodyCheck(1000))) as m:
        await m.client.send(
            b"POST /secret HTTP/1.1\r\nHost: api\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await m.client.head())[0] == 100
        await m.client.send(b"abc")
        assert (await m.client.answer()).status == 200
    assert m.provider.requests[0].body == m.app.requests[0].body == b"abc"


async def test_pipelined_requests_wait_their_turn(pki):
    async with mesh(pki, says("200 OK")) as m:
        one = b"GET /secret/%d HTTP/1.1\r\nHost: api\r\n\r\n"
        await m.client.send(b"".join(one % number for number in range(5)))
        for _ in range(5):
            assert (await m.client.answer()).status == 200
    assert [seen.target for seen in m.app.requests] == [f"/secret/{number}" for number in range(5)]


async def test_a_client_that_leaves_while_the_provider_thinks_costs_nothing(pki):
    async with mesh(pki, hang, provider=replace(PROVIDER, timeout_s=0.3)) as m:
        await m.client.send(b"GET /secret HTTP/1.1\r\nHost: api\r\n\r\n")
        await asyncio.sleep(0.1)
        m.client.writer.transport.abort()
        async with asyncio.timeout(3):
            while m.api.clusters.live[CLUSTER].hosts[0].active:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.02)
    assert m.app.connections == 0
