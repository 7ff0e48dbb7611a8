"""Telemetry: which document decides what a sidecar reports, and what a filter lets through."""

from __future__ import annotations

import pytest

from meshpy.compile import check, compile_mesh
from meshpy.engine.log_filter import compile_filter
from meshpy.model.names import ServiceName
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
from meshpy.policy.cel import CelError, parse_filter
from meshpy.wire import decode_snapshot, encode
from tests.helpers.policies import document, loaded, shop


def settings(*texts: str, of: str = "shop/api") -> TelemetrySettings:
    snapshot = compile_mesh(shop(), loaded(*texts), trust_domain="d", revision=1)[ServiceName.parse(of)]
    assert decode_snapshot(encode(snapshot)) == snapshot
    return snapshot.telemetry


def telemetry(spec: str, name: str = "p", namespace: str = "shop") -> str:
    return document("Telemetry", spec, name, namespace)


def test_without_a_document_everything_is_reported() -> None:
    assert settings() == TelemetrySettings()


def test_the_narrowest_that_speaks_of_a_thing_decides_it() -> None:
    root = telemetry(
        "accessLogging: [{disabled: true}]\ntracing: [{randomSamplingPercentage: 5}]", "root", "mesh-system"
    )
    space = telemetry("accessLogging: [{filter: {expression: response.code >= 500}}]", "space")
    own = telemetry("selector: {matchLabels: {app: api}}\naccessLogging: [{disabled: false}]", "own")
    assert settings(root).client.log == LogRule(True)
    assert settings(root, of="blog/web").server.log == LogRule(True)
    assert settings(root, space).server.log.filter is not None
    found = settings(root, space, own)
    assert found.client == Reporting()
    assert found.sampling_pct == 5.0
    assert settings(root, space, own, of="shop/web").client.log.filter is not None


def test_modes_are_the_two_directions() -> None:
    found = settings(
        telemetry(
            """
            accessLogging: [{match: {mode: CLIENT}, disabled: true}]
            tracing: [{match: {mode: SERVER}, disableSpanReporting: true}, {randomSamplingPercentage: 100}]
            """
        )
    )
    assert (found.client.log.is_off, found.server.log.is_off) == (True, False)
    assert (found.client.sends_spans, found.server.sends_spans, found.sampling_pct) == (True, False, 100.0)


@pytest.mark.parametrize(
    ("text", "seen", "passes"),
    [
        ("response.code >= 400", (404, "GET", "/", "a"), True),
        ("response.code >= 400", (200, "GET", "/", "a"), False),
        ("response.code == 0 || response.code != 200", (0, "GET", "/", "a"), True),
        ("!(response.code < 500)", (503, "GET", "/", "a"), True),
        ("response.code > 99 && request.method == 'POST'", (200, "GET", "/", "a"), False),
        ("request.method != \"GET\" || request.host == 'a'", (200, "GET", "/", "a"), True),
        ('!request.url_path.startsWith("/healthz")', (200, "GET", "/healthz/x", "a"), False),
        (
            "request.url_path.endsWith('.js') || request.url_path.contains('/v1/')",
            (200, "G", "/a/v1/b", ""),
            True,
        ),
        (
            "response.code >= 500 || response.code >= 400 && request.method == 'GET'",
            (404, "PUT", "", ""),
            False,
        ),
    ],
)
def test_a_filter_is_read_by_cel_s_precedence(text: str, seen: tuple, passes: bool) -> None:
    assert compile_filter(parse_filter(text))(*seen, "", True) is passes


@pytest.mark.parametrize(
    ("text", "agent", "is_mtls", "passes"),
    [
        ("connection.mtls && request.url_path.contains('v1beta3')", "", True, True),
        ("connection.mtls && request.url_path.contains('v1beta3')", "", False, False),
        ("!connection.mtls", "", False, True),
        ("connection.mtls == false || response.code > 500", "", False, True),
        ("connection.mtls != true", "", True, False),
        ("!has(request.useragent) || !request.useragent.startsWith('Probe')", "", True, True),
        ("!has(request.useragent) || !request.useragent.startsWith('Probe')", "Probe/1", True, False),
        ("has(response.code) && response.code >= 400", "", True, False),
    ],
)
def test_a_filter_may_look_at_the_agent_and_at_mtls(
    text: str, agent: str, is_mtls: bool, passes: bool
) -> None:
    assert compile_filter(parse_filter(text))(200, "GET", "/v1beta3/x", "a", agent, is_mtls) is passes


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("", 1, "the end is no attribute"),
        ("response.code", 14, "the end is no comparison"),
        ("response.code >= '400'", 18, "\"'400'\" is no number"),
        ("response.codes >= 400", 1, "'response.codes' is no attribute that is known"),
        ("request.method > 'A'", 18, "\"'A'\" is compared in an order that texts have not"),
        ("response.code >= 400 response.code", 22, "'response.code' is left over"),
        ("(response.code >= 400", 22, "the end stands where a ) is needed"),
        ("response.code >= 400 @", 22, "'@' cannot be read"),
        ("response.code.startsWith('4')", 1, "'response.code.startsWith' is of texts, a code is a number"),
        ("connection.mtls == 1", 20, "'1' is no boolean"),
        ("connection.mtls.contains('t')", 1, "'connection.mtls.contains' is of texts, this is true or false"),
        ("has(connection.mtls)", 5, "'connection.mtls' is nothing that may be absent"),
        ("has(request.useragent", 22, "the end stands where a ) is needed"),
        ("!" * 40 + "response.code == 1", 32, "'!' is nested too deep"),
    ],
)
def test_what_is_no_filter_is_named_with_its_column(text: str, column: int, what: str) -> None:
    with pytest.raises(CelError) as caught:
        parse_filter(text)
    assert (caught.value.column, caught.value.what) == (column, what)
    assert caught.value.instead


def test_tags_of_spans_are_those_of_the_narrowest_document_that_has_some() -> None:
    space = telemetry("tracing: [{customTags: {env: {literal: {value: prod}}}}]", "space")
    own = telemetry(
        """
        selector: {matchLabels: {app: api}}
        tracing:
        - {disableSpanReporting: false}
        - match: {mode: SERVER}
          customTags:
            tenant: {header: {name: X-Tenant, defaultValue: none}}
            node: {environment: {name: MESHPY_NODE}}
        """,
        "own",
    )
    found = settings(space, own)
    assert found.client.span_tags == (SpanTag("env", TagOrigin.LITERAL, "prod"),)
    assert found.server.span_tags == (
        SpanTag("tenant", TagOrigin.HEADER, "x-tenant", "none"),
        SpanTag("node", TagOrigin.ENVIRONMENT, "MESHPY_NODE"),
    )


def test_overrides_of_metrics_add_up_from_wide_to_narrow() -> None:
    root = telemetry(
        """
        metrics:
        - providers: [{name: prometheus}]
          overrides: [{match: {metric: REQUEST_SIZE}, disabled: true}]
        """,
        "root",
        "mesh-system",
    )
    own = telemetry(
        """
        selector: {matchLabels: {app: api}}
        metrics:
        - overrides:
          - match: {metric: REQUEST_SIZE, mode: SERVER}
            disabled: false
          - tagOverrides:
              source_principal: {operation: REMOVE}
              team: {value: "'back'"}
              code: {operation: UPSERT, value: response.code}
        """,
        "own",
    )
    size = MetricOverride(MetricFamily.REQUEST_SIZE, is_off=True)
    tags = MetricOverride(
        None,
        tags=(
            MetricTag("source_principal", None),
            MetricTag("team", "back"),
            MetricTag("code", "response_code", is_label=True),
        ),
    )
    found = settings(root, own)
    assert found.client.metrics == (size, tags)
    assert found.server.metrics == (size, MetricOverride(MetricFamily.REQUEST_SIZE, is_off=False), tags)


def test_two_of_one_level_for_one_workload_are_an_error() -> None:
    off = "accessLogging: [{disabled: true}]"
    (error,) = check(shop(), loaded(telemetry(off, "a"), telemetry(off, "b"))).errors
    assert "Telemetry shop/b and Telemetry shop/a both speak of" in error.what
    assert not check(shop(), loaded(telemetry(off, "a"), telemetry(off, "b", "mesh-system"))).errors
