"""Tags of spans and labels of metrics in an Istio Telemetry.

Source: istio.io/latest/docs/reference/config/telemetry (Tracing.CustomTag, MetricsOverrides). A label's value
is a text or another label of the series: whatever a caller can choose (paths, hosts, headers) would let a
stranger make series without end, so it is refused there and belongs into a span or the log.
"""

from __future__ import annotations

import re

from meshpy.model.telemetry import (
    METRIC_LABELS,
    MetricFamily,
    MetricOverride,
    MetricTag,
    SpanTag,
    TagOrigin,
)
from meshpy.policy.mesh_docs import MetricEntry
from meshpy.policy.reader import Cursor, Fields, suggestion

__all__ = ["BOTH_MODES", "check_providers", "metric_entries", "modes_of", "span_tags"]

BOTH_MODES = frozenset({"CLIENT", "SERVER"})
MAX_TAGS, MAX_NAME, MAX_VALUE = 20, 64, 256
_ATTRIBUTES = {
    "source.principal": "source_principal",
    "destination.principal": "destination_principal",
    "request.protocol": "request_protocol",
    "response.code": "response_code",
    "response.flags": "response_flags",
    "response.grpc_status": "grpc_response_status",
}
"""Envoy's attributes that a series is told apart by anyway."""
_LABEL = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]{0,63}")
_TEXT = re.compile(r"""\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*""")
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization", "x-api-key")
_FIXED = ("reporter", "le")
_FORMATTER = (
    "is Envoy's own language, which sidecars do not read",
    "write literal:, header: or environment:",
)
_CUSTOM_METRIC = (
    "names a metric of an extension, and there are none",
    "write metric: REQUEST_COUNT or another",
)
_INTERVAL = ("has no meaning here: counters are told as they are when they are asked", "remove it")


def modes_of(fields: Fields) -> frozenset[str]:
    """The directions that `match.mode` names; both where it is not written."""
    cursor = fields.get("match")
    return BOTH_MODES if cursor is None else _modes(cursor.fields(("mode",)))


def _modes(fields: Fields) -> frozenset[str]:
    mode = fields.get("mode")
    if mode is None:
        return BOTH_MODES
    word = mode.choice(("CLIENT_AND_SERVER", "CLIENT", "SERVER"))
    return BOTH_MODES if word == "CLIENT_AND_SERVER" else frozenset({word})


def check_providers(fields: Fields, only: str, what: str) -> None:
    """A provider other than the one there is."""
    for item in fields.items("providers"):
        name = item.fields(("name",)).required("name", f"name: {only}")
        if name is not None and name.text() != only:
            name.problem(f"{name.text()!r} is no provider here", f"write {only}: {what}")


# -- spans


def span_tags(cursor: Cursor) -> tuple[SpanTag, ...]:
    """Read `customTags`."""
    found = []
    for name, at in cursor.pairs():
        if not 0 < len(name) <= MAX_NAME:
            at.problem("the name of a tag has 1 to 64 characters", "shorten it")
        fields = at.fields(("literal", "header", "environment"), {"formatter": _FORMATTER})
        origin = fields.only_one("literal", "header", "environment")
        value = fields.get(origin) if origin else None
        if value is None:
            at.problem(
                "says no value", 'write literal: {value: "…"}, header: {name: …} or environment: {name: …}'
            )
        else:
            found.append(_span_tag(name, TagOrigin(origin), value))
    if len(found) > MAX_TAGS:
        cursor.problem(f"{len(found)} tags", f"write at most {MAX_TAGS}")
    return tuple(found)


def _span_tag(name: str, origin: TagOrigin, cursor: Cursor) -> SpanTag:
    if origin is TagOrigin.LITERAL:
        value = cursor.fields(("value",)).required("value", 'value: "…"')
        return SpanTag(name, origin, _bounded(value) if value is not None else "")
    fields = cursor.fields(("name", "defaultValue"))
    at = fields.required("name")
    default = fields.get("defaultValue")
    text = _bounded(at) if at is not None else ""
    if origin is TagOrigin.HEADER and at is not None:
        text = text.lower()
        if not _HEADER.fullmatch(text):
            at.problem(f"{text!r} is no name of a header", "write for instance x-tenant")
        elif text in _SECRET_HEADERS:
            at.problem(f"{text} holds a secret, and traces are read by many", "write another header")
    return SpanTag(name, origin, text, _bounded(default) if default is not None else "")


def _bounded(cursor: Cursor) -> str:
    text = cursor.text()
    if len(text) > MAX_VALUE:
        cursor.problem(f"{len(text)} characters", f"write at most {MAX_VALUE}")
    elif not text:
        cursor.problem("is empty", "write a value, or remove the key")
    return text


# -- metrics


def metric_entries(cursor: Cursor) -> tuple[MetricEntry, ...]:
    """Read one of `metrics`."""
    fields = cursor.fields(("providers", "overrides"), {"reportingInterval": _INTERVAL})
    check_providers(fields, "prometheus", "what sidecars serve on /metrics")
    if "overrides" not in fields:
        cursor.problem("changes nothing", "write overrides:, or remove the entry")
    return tuple(_override(item) for item in fields.items("overrides"))


def _override(cursor: Cursor) -> MetricEntry:
    fields = cursor.fields(("match", "disabled", "tagOverrides"))
    at_match, at_tags = fields.get("match"), fields.get("tagOverrides")
    modes, family = BOTH_MODES, None
    if at_match is not None:
        match = at_match.fields(("metric", "mode"), {"customMetric": _CUSTOM_METRIC})
        modes = _modes(match)
        metric = match.get("metric")
        word = metric.choice(("ALL_METRICS", *MetricFamily.__members__)) if metric is not None else ""
        family = MetricFamily.__members__.get(word)
    is_off = fields.boolean("disabled") if "disabled" in fields else None
    tags = _metric_tags(at_tags) if at_tags is not None else ()
    if is_off is None and at_tags is None:
        cursor.problem("changes nothing", "write disabled: or tagOverrides:")
    if is_off and at_tags is not None:
        at_tags.problem("a metric that is disabled has no tags", "remove `disabled` or `tagOverrides`")
    return MetricEntry(modes, MetricOverride(family, is_off, tags))


def _metric_tags(cursor: Cursor) -> tuple[MetricTag, ...]:
    found = tuple(_metric_tag(name, at) for name, at in cursor.pairs())
    if len(found) > MAX_TAGS:
        cursor.problem(f"{len(found)} tags", f"write at most {MAX_TAGS}")
    return found


def _metric_tag(name: str, cursor: Cursor) -> MetricTag:
    fields = cursor.fields(("operation", "value"))
    operation, value = fields.get("operation"), fields.get("value")
    removes = operation is not None and operation.choice(("UPSERT", "REMOVE")) == "REMOVE"
    if not _LABEL.fullmatch(name):
        cursor.problem(f"{name!r} is no name of a label", "write letters, digits and _, for instance team")
    elif name in _FIXED:
        cursor.problem(f"{name} tells the series of one metric apart", "change another tag")
    elif removes and name not in METRIC_LABELS:
        cursor.problem(f"no metric has the tag {name!r}", suggestion(name, METRIC_LABELS))
    if removes:
        if value is not None:
            value.problem("a tag that is removed has no value", "remove `value`, or write operation: UPSERT")
        return MetricTag(name, None)
    if value is None:
        cursor.problem("`value` is missing", "write value: \"'…'\", or operation: REMOVE")
        return MetricTag(name, None)
    return _upserted(name, value)


def _upserted(name: str, cursor: Cursor) -> MetricTag:
    text = cursor.text()
    literal = _TEXT.fullmatch(text)
    if literal is not None:
        found = literal[1] or literal[2] or ""
        if not 0 < len(found) <= MAX_VALUE:
            cursor.problem(
                f"a label's value has 1 to {MAX_VALUE} characters", "write operation: REMOVE, or shorten it"
            )
        return MetricTag(name, found)
    label = _ATTRIBUTES.get(text.strip())
    if label is None:
        cursor.problem(
            f"{text!r} is no value that keeps the number of series bounded",
            f"write a text in '…' or one of {', '.join(_ATTRIBUTES)}; tracing.customTags holds others",
        )
    return MetricTag(name, label or "", is_label=True)
