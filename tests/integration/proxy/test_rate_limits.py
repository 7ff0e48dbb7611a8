"""Rate limits at the callee's sidecar, over mTLS and at the edge."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest

from meshpy.cli.main import run
from meshpy.model.endpoint import Endpoint
from meshpy.model.match import RequestMatch, SegmentPrefix
from meshpy.model.rate_limit import RateLimit
from proxy.series import prometheus_text
from tests.helpers.backends import backend
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    Client,
    LogLines,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    running,
)

TITLE = "HTTPLocalRateLimitPolicy shop/api"


@contextlib.asynccontextmanager
async def limited(pki, *limits: RateLimit, log: LogLines | None = None):
    """web → api over mTLS, where api's sidecar has these limits; and api's edge port."""
    async with backend() as app, contextlib.AsyncExitStack() as stack:
        mesh, call, edge = free_port(), free_port(), free_port()
        inside = inbound_snapshot(edge, (Endpoint(LOOPBACK, app.port),), ingress=True)
        inside = replace(inside, rate_limits=limits)
        settings = {"mesh_port": mesh, "binds": {"edge": (LOOPBACK,)}}
        api = await stack.enter_async_context(
            running(inside, pki, **settings, **({"log": log.log} if log else {}))
        )
        cluster = mesh_cluster(mesh, edge)
        await stack.enter_async_context(running(outbound_snapshot(call, {cluster.name: cluster}), pki))
        yield call, edge, app, api, inside


async def statuses(port: int, count: int, path: str = "/") -> list[int]:
    async with await Client.connect(port) as client:
        return [(await client.get(path)).status for _ in range(count)]


async def test_what_exceeds_a_rate_gets_429_and_never_reaches_the_app(pki):
    log = LogLines()
    async with limited(pki, RateLimit(TITLE, identity_rps=5), log=log) as (call, _, app, api, _snapshot):
        async with await Client.connect(call) as client:
            answers = [await client.get() for _ in range(12)]
        refused = [answer for answer in answers if answer.status == 429]
        assert 5 <= len(refused) <= 7
        assert refused[0].headers["retry-after"] == "1"
        assert refused[0].headers["ratelimit-policy"] == '"identity";q=5;w=1'
        assert refused[0].headers["ratelimit"] == '"identity";r=0;t=1'
        assert refused[0].body == f"{TITLE} identity: 5 requests a second for shop/web\n".encode()
        line = next(line for line in log.lines() if line["response_code"] == 429)
        assert (line["response_flags"], line["policy"], line["stage"]) == ("RL", TITLE, "rate limit")
        count = f'meshpy_rate_limited_total{{policy="{TITLE}",rule="identity"}} {len(refused)}'
        assert count in prometheus_text(api.telemetry)
        assert not any(record["denied"] for record in api.telemetry.take_records())
    assert len(app.requests) == 12 - len(refused)


async def test_callers_outside_the_mesh_share_one_rate_and_read_no_policy_names(pki):
    async with limited(pki, RateLimit(TITLE, identity_rps=3)) as (call, edge, _app, _api, _snapshot):
        async with await Client.connect(edge) as one, await Client.connect(edge) as other:
            answers = [await client.get() for _ in range(4) for client in (one, other)]
        refused = [answer for answer in answers if answer.status == 429]
        assert len(refused) >= 4
        assert refused[0].body == b"local_rate_limited\n"
        assert await statuses(call, 3) == [200] * 3


async def test_a_route_can_have_a_rate_of_its_own(pki):
    search = RateLimit(TITLE, (RequestMatch(path=SegmentPrefix("/search")),), total_rps=1)
    async with limited(pki, search) as (call, _, _app, _api, _snapshot):
        assert await statuses(call, 10, "/cart") == [200] * 10
        assert (await statuses(call, 5, "/search?q=x")).count(429) >= 4


async def test_a_rate_that_stays_goes_on_counting_through_snapshots_and_another_begins_anew(pki):
    async with limited(pki, RateLimit(TITLE, total_rps=1)) as (call, _, _app, api, snapshot):
        assert await statuses(call, 1) == [200]
        await api.apply(replace(snapshot, version="next"))
        assert await statuses(call, 1) == [429]
        await api.apply(replace(snapshot, version="wider", rate_limits=(RateLimit(TITLE, total_rps=50),)))
        assert await statuses(call, 20) == [200] * 20


async def test_a_denied_request_uses_up_no_rate(pki):
    limit = RateLimit(TITLE, total_rps=2)
    async with limited(pki, limit) as (call, edge, _app, api, snapshot):
        closed = replace(snapshot.authorization, baseline_external=frozenset())
        await api.apply(replace(snapshot, version="closed", authorization=closed))
        assert await statuses(edge, 10) == [403] * 10
        assert await statuses(call, 2) == [200, 200]


def test_policy_explain_shows_the_rates(tmp_path, capsys):
    (tmp_path / "stack.yml").write_text(
        "services:\n  web: {image: x, labels: {meshpy.ports: 80/http}}\n"
        "  api: {image: x, labels: {meshpy.ports: 8080/http}}\n"
    )
    (tmp_path / "limit.yml").write_text(
        "apiVersion: policy.linkerd.io/v1alpha1\nkind: HTTPLocalRateLimitPolicy\n"
        "metadata: {name: api, namespace: shop}\nspec:\n  targetRef: {kind: Service, name: api}\n"
        "  identity: {requestsPerSecond: 7}\n"
    )
    argv = ["policy", "explain", "--stack", f"{tmp_path}/stack.yml", "--namespace", "shop"]
    argv += ["--policies", f"{tmp_path}/limit.yml", "web", "api", "GET", "/", "-o", "json"]
    with pytest.raises(SystemExit, match="0"):
        run(argv)
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [(step["stage"], step["rule"]) for step in steps if step["stage"] == "rate limit"] == [
        ("rate limit", "identity")
    ]
