"""Istio Telemetry. Source: istio.io/latest/docs/reference/config/telemetry.

What the sidecar reports by itself is steered: its access log, the share of traces it begins, its spans, the
labels of its metrics. Where it reports to is not a matter of a document, so providers are one word for each.
"""

from __future__ import annotations

from meshpy.model.telemetry import LogRule
from meshpy.policy.attachment import ATTACH_REFUSED, ATTACHED_BY, attachment
from meshpy.policy.cel import CelError, parse_filter
from meshpy.policy.kinds import Meta
from meshpy.policy.mesh_docs import LogEntry, TelemetryDoc, TraceEntry
from meshpy.policy.reader import Cursor
from meshpy.policy.telemetry_tags import BOTH_MODES, check_providers, metric_entries, modes_of, span_tags

__all__ = ["telemetry"]

_TRACING_REFUSED = {
    "useRequestIdForTraceSampling": ("is not read: a trace id is drawn by itself", "remove it"),
    "enableIstioTags": ("is not read: spans carry OpenTelemetry's attributes", "remove it"),
    "disableContextPropagation": ("is not read: a trace that ends halfway helps nobody", "remove it"),
}


def telemetry(meta: Meta, spec: Cursor) -> TelemetryDoc:
    """Read `spec`."""
    known = (*ATTACHED_BY, "accessLogging", "tracing", "metrics")
    fields = spec.fields(known, ATTACH_REFUSED)
    place = attachment(fields, meta)
    logging = tuple(_log(item) for item in fields.items("accessLogging"))
    tracing = tuple(_trace(item) for item in fields.items("tracing"))
    metrics = tuple(entry for item in fields.items("metrics") for entry in metric_entries(item))
    if not logging and not tracing and "metrics" not in fields:
        spec.problem("says nothing", "write accessLogging:, tracing: or metrics:")
    return TelemetryDoc(meta, logging, tracing, place.selector, place.place, place.refs, metrics)


def _log(cursor: Cursor) -> LogEntry:
    fields = cursor.fields(("match", "providers", "disabled", "filter"))
    check_providers(fields, "envoy", "the sidecar's own log")
    is_off = fields.boolean("disabled")
    at_filter = fields.get("filter")
    expression = None
    if at_filter is not None:
        if is_off:
            at_filter.problem("a log that is disabled has no filter", "remove `disabled` or `filter`")
        at_text = at_filter.fields(("expression",)).required("expression", "expression: response.code >= 400")
        expression = at_text
    return LogEntry(modes_of(fields), _rule(expression, is_off=is_off))


def _rule(cursor: Cursor | None, *, is_off: bool) -> LogRule:
    if cursor is None:
        return LogRule(is_off)
    try:
        return LogRule(is_off, parse_filter(cursor.text()))
    except CelError as error:
        cursor.problem(f"in column {error.column} of the expression: {error.what}", error.instead)
        return LogRule(is_off)


def _trace(cursor: Cursor) -> TraceEntry:
    known = ("match", "providers", "randomSamplingPercentage", "disableSpanReporting", "customTags")
    fields = cursor.fields(known, _TRACING_REFUSED)
    check_providers(fields, "meshpy", "spans go to the control plane")
    tags = fields.get("customTags")
    share = fields.get("randomSamplingPercentage")
    modes = modes_of(fields)
    if share is not None and modes != BOTH_MODES:
        share.problem(
            "the share is drawn once for both modes", "remove `match`, or write it in an entry of its own"
        )
    return TraceEntry(
        modes,
        share.number(0, 100) if share is not None else None,
        fields.boolean("disableSpanReporting") if "disableSpanReporting" in fields else None,
        span_tags(tags) if tags is not None else None,
    )
