"""A span as a sidecar reports it, read strictly and bounded: a sidecar speaks for its own service only."""

from __future__ import annotations

import re
from typing import Any

from control_plane.errors import BadRequest
from meshpy.model.names import ServiceName
from meshpy.model.span import Attribute, Kind, Span

__all__ = ["MAX_ATTRIBUTES", "read_span"]

MAX_ATTRIBUTES = 32
MAX_TEXT = 512
MAX_DURATION_US = 24 * 3600 * 1_000_000
MAX_TIME_US = 1 << 53
MAX_SHARED, MAX_SHARED_CHARS = 20_000, 80
_TRACE_ID, _SPAN_ID = re.compile(r"(?!0{32})[0-9a-f]{32}"), re.compile(r"(?!0{16})[0-9a-f]{16}")


def read_span(item: object, reporter: ServiceName) -> Span:
    """Read one entry of a `spans` message.

    Raises:
        BadRequest: it is malformed; the message says how.
    """
    if not isinstance(item, dict):
        raise BadRequest("spans: a span is an object")
    parent = item.get("parent", "")
    return Span(
        trace_id=_identifier(item.get("trace"), _TRACE_ID),
        span_id=_identifier(item.get("span"), _SPAN_ID),
        parent_id=_identifier(parent, _SPAN_ID) if parent else "",
        service=f"{reporter.name}.{reporter.namespace}",
        kind=_kind(item.get("kind")),
        name=_text(item.get("name")),
        start_us=_count(item.get("start_us"), MAX_TIME_US),
        duration_us=_count(item.get("duration_us"), MAX_DURATION_US),
        is_error=item.get("error") is True,
        attributes=_attributes(item.get("attributes", {})),
        is_sampled=item.get("sampled") is not False,
    )


def _identifier(value: object, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise BadRequest("spans: ids are lower-case hex as W3C Trace Context has them")
    return value


def _kind(value: object) -> Kind:
    try:
        return Kind(str(value))
    except ValueError:
        raise BadRequest("spans: `kind` is CLIENT or SERVER") from None


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadRequest("spans: a name is a text")
    return _printable(value)


_shared: dict[str, str] = {}
"""Texts as they are held: names of attributes and most of their values come again in every span, and were
half of what a span takes."""


def _printable(text: str) -> str:
    text = text[:MAX_TEXT]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    if len(text) > MAX_SHARED_CHARS:
        return text
    if len(_shared) >= MAX_SHARED:  # ids, which never come again, fill it
        _shared.clear()
    return _shared.setdefault(text, text)


def _count(value: object, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise BadRequest("spans: times are whole microseconds")
    return value


def _attributes(value: Any) -> dict[str, Attribute]:
    if not isinstance(value, dict) or len(value) > MAX_ATTRIBUTES:
        raise BadRequest(f"spans: at most {MAX_ATTRIBUTES} attributes by name")
    found: dict[str, Attribute] = {}
    for name, item in value.items():
        if isinstance(item, str):
            item = _printable(item)  # noqa: PLW2901 - the same value, cut
        elif not isinstance(item, bool | int | float):
            raise BadRequest("spans: an attribute is a text, a number or a truth value")
        found[_printable(str(name))] = item
    return found
