"""Istio Telemetry. Source: istio.io/latest/docs/reference/config/telemetry.

What the sidecar reports by itself is steered: its access log, the share of traces it begins, its spans. Where
it reports to is not a matter of a document, so providers other than Istio's built-in `envoy` are refused.
"""

from __future__ import annotations

from meshpy.model.telemetry import LogRule
from meshpy.policy.attachment import ATTACH_REFUSED, ATTACHED_BY, attachment
from meshpy.policy.cel import CelError, parse_filter
from meshpy.policy.kinds import Meta
from meshpy.policy.mesh_docs import LogEntry, TelemetryDoc, TraceEntry
from meshpy.policy.reader import NOT_YET, Cursor, Fields

__all__ = ["telemetry"]

_METRICS = ("is not supported yet by meshpy: metrics and their labels are fixed and bounded", "remove it")
_TRACING_REFUSED = {
    "customTags": NOT_YET,
    "providers": ("names where traces go: here to the control plane", "remove it"),
    "useRequestIdForTraceSampling": ("is not read: a trace id is drawn by itself", "remove it"),
    "enableIstioTags": ("is not read: spans carry OpenTelemetry's attributes", "remove it"),
    "disableContextPropagation": ("is not read: a trace that ends halfway helps nobody", "remove it"),
}
_BOTH = frozenset({"CLIENT", "SERVER"})


def telemetry(meta: Meta, spec: Cursor) -> TelemetryDoc:
    """Read `spec`."""
    known = (*ATTACHED_BY, "accessLogging", "tracing")
    fields = spec.fields(known, {**ATTACH_REFUSED, "metrics": _METRICS})
    place = attachment(fields, meta)
    logging = tuple(_log(item) for item in fields.items("accessLogging"))
    tracing = tuple(_trace(item) for item in fields.items("tracing"))
    if not logging and not tracing:
        spec.problem("says nothing", "write accessLogging: or tracing:")
    return TelemetryDoc(meta, logging, tracing, place.selector, place.place, place.refs)


def _modes(fields: Fields) -> frozenset[str]:
    cursor = fields.get("match")
    if cursor is None:
        return _BOTH
    mode = cursor.fields(("mode",)).get("mode")
    if mode is None:
        return _BOTH
    word = mode.choice(("CLIENT_AND_SERVER", "CLIENT", "SERVER"))
    return _BOTH if word == "CLIENT_AND_SERVER" else frozenset({word})


def _log(cursor: Cursor) -> LogEntry:
    fields = cursor.fields(("match", "providers", "disabled", "filter"))
    for item in fields.items("providers"):
        name = item.fields(("name",)).required("name", "name: envoy")
        if name is not None and name.text() != "envoy":
            name.problem(f"{name.text()!r} is no provider here", "write envoy: the sidecar's own log")
    is_off = fields.boolean("disabled")
    at_filter = fields.get("filter")
    expression = None
    if at_filter is not None:
        if is_off:
            at_filter.problem("a log that is disabled has no filter", "remove `disabled` or `filter`")
        at_text = at_filter.fields(("expression",)).required("expression", "expression: response.code >= 400")
        expression = at_text
    return LogEntry(_modes(fields), _rule(expression, is_off=is_off))


def _rule(cursor: Cursor | None, *, is_off: bool) -> LogRule:
    if cursor is None:
        return LogRule(is_off)
    try:
        return LogRule(is_off, parse_filter(cursor.text()))
    except CelError as error:
        cursor.problem(f"in column {error.column} of the expression: {error.what}", error.instead)
        return LogRule(is_off)


def _trace(cursor: Cursor) -> TraceEntry:
    known = ("match", "randomSamplingPercentage", "disableSpanReporting")
    fields = cursor.fields(known, _TRACING_REFUSED)
    share = fields.get("randomSamplingPercentage")
    modes = _modes(fields)
    if share is not None and modes != _BOTH:
        share.problem(
            "the share is drawn once for both modes", "remove `match`, or write it in an entry of its own"
        )
    return TraceEntry(
        modes,
        share.number(0, 100) if share is not None else None,
        fields.boolean("disableSpanReporting") if "disableSpanReporting" in fields else None,
    )
