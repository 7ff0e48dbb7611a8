"""Trace context: what a request came with, what it leaves with, and whether its span is kept.

W3C Trace Context and B3 (single and multi) come in; `traceparent` goes out, and B3 in the form in which it
came. Each sidecar puts a span id of its own into what it forwards, so that spans hang together.
Sources: W3C Trace Context §3.2, openzipkin/b3-propagation.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.decide.headers import Ids
from proxy.http.events import Headers
from proxy.http.head import RequestHead

__all__ = ["Context", "begin_span", "is_sampled", "next_attempt"]

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
"""A later version may carry more after the flags."""

_B3_SINGLE: Final = re.compile(rb"([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?")
_B3_IDS: Final = re.compile(rb"([0-9a-f]{16}|[0-9a-f]{32}) ([0-9a-f]{16})")
_B3_NAMES: Final = (
    b"b3",
    b"x-b3-traceid",
    b"x-b3-spanid",
    b"x-b3-parentspanid",
    b"x-b3-sampled",
    b"x-b3-flags",
)
_SAMPLED: Final = b"1"
_ODD_DIGITS: Final = b"13579bdf"


Context = tuple[bytes, bytes, tuple[bytes, ...]]
"""One span's place in its trace.

`traceparent` as it is forwarded (version 00, this span's id, the flags); the id of the span above, 16 hex
digits, empty for the root; names of received fields that give way to ours. Compiled, a tuple is no object.
"""


def begin_span(head: RequestHead, ids: Ids, extra: Headers) -> Context:
    """Continue the trace that a request belongs to, or begin one; the fields to forward go to `extra`."""
    fields = head.fields
    received = fields.get(b"traceparent")
    if received is not None and _TRACEPARENT.fullmatch(received) is not None:
        own = b"00%b%b%b" % (received[2:36], ids.hex(16).encode(), received[52:55])
        context: Context = (own, received[36:52], (b"traceparent",))
    elif b"b3" in fields or b"x-b3-traceid" in fields:
        context = _from_b3(head, ids, extra)
    else:
        context = (ids.traceparent(), b"", () if received is None else (b"traceparent",))
    extra.append((b"traceparent", context[0]))
    return context


def is_sampled(traceparent: bytes) -> bool:
    """Whether its trace is recorded by everybody (W3C §3.2.2.5.1)."""
    return traceparent[54] in _ODD_DIGITS


def next_attempt(traceparent: bytes, ids: Ids, extra: Headers) -> tuple[bytes, Headers]:
    """The same trace with a span id for another attempt, and the fields that carry it."""
    span_id, new_id = traceparent[36:52], ids.hex(16).encode()
    changed = [(name, value.replace(span_id, new_id)) for name, value in extra]
    return traceparent.replace(span_id, new_id), changed


def _from_b3(head: RequestHead, ids: Ids, extra: Headers) -> Context:
    fields = head.fields
    is_single = b"b3" in fields
    dropped = tuple(name for name in (*_B3_NAMES, b"traceparent") if name in fields)
    if is_single:
        found = _B3_SINGLE.fullmatch(fields[b"b3"])
        sampled = (found[3] if found else None) or b""
    else:
        found = _B3_IDS.fullmatch(b"%b %b" % (fields[b"x-b3-traceid"], fields.get(b"x-b3-spanid", b"")))
        is_debug = fields.get(b"x-b3-flags") == _SAMPLED
        sampled = _SAMPLED if is_debug else fields.get(b"x-b3-sampled", b"")
    if found is None or not found[1].strip(b"0") or not found[2].strip(b"0"):
        return ids.traceparent(), b"", dropped
    trace_id = found[1].rjust(32, b"0")
    drawn = ids.traceparent()
    flags = {b"": drawn[53:55], b"0": b"00", b"false": b"00"}.get(sampled, b"01")
    span_id = drawn[36:52]
    if is_single:
        extra.append((b"b3", b"%b-%b-%b" % (found[1], span_id, flags[1:])))
    else:
        extra += [
            (b"x-b3-traceid", found[1]),
            (b"x-b3-spanid", span_id),
            (b"x-b3-parentspanid", found[2]),
            (b"x-b3-sampled", flags[1:]),
        ]
    return b"00-%b-%b-%b" % (trace_id, span_id, flags), found[2], dropped
