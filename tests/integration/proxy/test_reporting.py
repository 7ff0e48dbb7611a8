"""What real sidecars report: logs by filter, spans by choice, and what staged policies would have done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshpy.model.authz import (
    Authorization,
    HttpMatch,
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    Pending,
    Tier,
)
from meshpy.model.endpoint import Endpoint
from meshpy.model.match import Exact
from meshpy.model.telemetry import (
    LogRule,
    MetricFamily,
    MetricOverride,
    MetricTag,
    Reporting,
    SpanTag,
    TagOrigin,
    TelemetrySettings,
)
from meshpy.policy.cel import parse_filter
from proxy.series import prometheus_text
from tests.helpers.backends import backend, ok
from tests.helpers.sidecars import LOOPBACK, WEB, Client, LogLines, inbound_snapshot
from tests.integration.proxy.test_pair import pair

SAMPLED = f"traceparent: 00-{'a' * 32}-{'b' * 16}-01\r\n"


@pytest.fixture
def log():
    lines = LogLines()
    yield lines
    lines.close()


def callee(app, **changes):
    return replace(inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),)), **changes)


def server(**fields) -> TelemetrySettings:
    return TelemetrySettings(server=Reporting(**fields))


async def test_the_log_holds_what_its_filter_lets_through_and_changes_with_the_snapshot(pki, log):
    answers = {"/missing": ok(b"", "404 Not Found")}
    rule = LogRule(filter=parse_filter("response.code >= 400 || request.url_path.startsWith('/odd')"))
    async with backend(lambda request: answers.get(request.target, ok(b"fine"))) as app:
        snapshot = callee(app, telemetry=server(log=rule))
        async with (
            pair(pki, app.port, callee=snapshot, log=log) as (port, _, _, api),
            await Client.connect(port) as client,
        ):
            for path in ("/", "/missing", "/odd/1"):
                await client.get(path)
            assert [line["path"] for line in log.lines()] == ["/missing", "/odd/1"]
            await api.apply(replace(snapshot, version="off", telemetry=server(log=LogRule(is_off=True))))
            await client.get("/missing")
            assert len(log.lines()) == 2
            await api.apply(replace(snapshot, version="all", telemetry=TelemetrySettings()))
            await client.get("/all")
            assert log.lines()[-1]["path"] == "/all"


async def test_spans_stay_away_where_they_are_not_wanted(pki):
    async with backend() as app:
        snapshot = callee(app, telemetry=server(sends_spans=False))
        async with (
            pair(pki, app.port, callee=snapshot) as (port, _, web, api),
            await Client.connect(port) as client,
        ):
            await client.get("/", headers=SAMPLED)
            assert (len(web.spans.take()), api.spans.take()) == (1, [])


async def test_the_share_of_sampled_traces_is_the_document_s(pki):
    async with (
        backend() as app,
        pair(pki, app.port) as (port, _, web, _),
        await Client.connect(port) as client,
    ):
        current = web.snapshot.value
        for pct, spans in ((100.0, 1), (0.0, 0)):
            settings = TelemetrySettings(sampling_pct=pct)
            await web.apply(replace(current, version=f"{pct}", telemetry=settings))
            await client.get("/")
            assert len(web.spans.take()) == spans


async def test_spans_carry_the_tags_of_the_document(pki):
    tags = (
        SpanTag("env", TagOrigin.LITERAL, "prod"),
        SpanTag("tenant", TagOrigin.HEADER, "x-tenant", "nobody"),
        SpanTag("region", TagOrigin.HEADER, "x-region"),
        SpanTag("home", TagOrigin.ENVIRONMENT, "NO_SUCH_VARIABLE", "unset"),
    )
    async with backend() as app:
        snapshot = callee(app, telemetry=server(span_tags=tags))
        async with (
            pair(pki, app.port, callee=snapshot) as (port, _, _, api),
            await Client.connect(port) as client,
        ):
            await client.get("/", headers=SAMPLED + "x-tenant: blue\r\n")
            await client.get("/", headers=SAMPLED)
    found = [
        {name: span["attributes"].get(name) for name in ("env", "tenant", "region", "home")}
        for span in api.spans.take()
    ]
    assert found == [
        {"env": "prod", "tenant": tenant, "region": None, "home": "unset"} for tenant in ("blue", "nobody")
    ]


async def test_metrics_lose_and_get_labels_and_are_added_up(pki):
    """Two callers that differ in a label become one series once it is gone."""
    changes = (
        MetricOverride(MetricFamily.REQUEST_SIZE, is_off=True),
        MetricOverride(None, tags=(MetricTag("team", "back"), MetricTag("response_code", None))),
    )
    answers = {"/missing": ok(b"", "404 Not Found")}
    async with backend(lambda request: answers.get(request.target, ok(b"fine"))) as app:
        snapshot = callee(app, telemetry=server(metrics=changes))
        async with (
            pair(pki, app.port, callee=snapshot) as (port, _, _, api),
            await Client.connect(port) as client,
        ):
            for path in ("/", "/missing", "/"):
                await client.get(path)
            lines = prometheus_text(api.telemetry).splitlines()
            (count,) = [line for line in lines if line.startswith("istio_requests_total")]
            assert count.endswith(" 3")
            assert 'team="back"' in count
            assert "response_code" not in count
            assert not [line for line in lines if line.startswith("istio_request_bytes")]
            assert [line for line in lines if line.startswith("istio_response_bytes_count")]
            await api.apply(replace(snapshot, version="all", telemetry=TelemetrySettings()))
            lines = prometheus_text(api.telemetry).splitlines()
            assert len([line for line in lines if line.startswith("istio_requests_total")]) == 2


STAGED = Tier(
    "default",
    (
        NetworkPolicy(
            "StagedNetworkPolicy shop/p",
            (NetworkRule("ingress[0]", NetworkAction.ALLOW, http=HttpMatch((Exact("POST"),))),),
        ),
    ),
)


async def test_a_staged_policy_lets_pass_and_is_told_in_the_log_and_counted(pki, log):
    authorization = Authorization(baseline=frozenset({WEB}), pending=Pending(ingress=(STAGED,)))
    async with backend() as app:
        snapshot = callee(app, authorization=authorization)
        async with (
            pair(pki, app.port, callee=snapshot, log=log) as (port, _, _, api),
            await Client.connect(port) as client,
        ):
            assert (await client.get("/")).status == 200
            assert (await client.get("/")).status == 200
        metrics = prometheus_text(api.telemetry)
        assert [(s.verdict, s.policy) for s in api.recent.newest()] == [
            ("AUDIT", "StagedNetworkPolicy shop/p")
        ] * 2
    assert [line["pending"] for line in log.lines()] == ["deny StagedNetworkPolicy shop/p"] * 2
    labels = 'stage="pending",policy="StagedNetworkPolicy shop/p",rule="",action="deny"'
    assert f"meshpy_authz_decisions_total{{{labels}}} 2" in metrics
