"""Trace context: what a request came with, what it leaves with, and whether its span is kept.

W3C Trace Context and B3 (single and multi) come in; `traceparent` goes out, and B3 in the form in which it
came. Each sidecar puts a span id of its own into what it forwards, so that spans hang together. `tracestate`
belongs to the `traceparent` it came with, and goes no further without (W3C §3.3).
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
    rb"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
"""A later version than 00 may carry more after the flags (§3.2.4)."""

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
_DECISIONS: Final = {b"0": b"0", b"1": b"1", b"d": b"d", b"true": b"1", b"false": b"0"}
"""Of B3; `true` and `false` came from early tracers."""
_ODD_DIGITS: Final = b"13579bdf"
_NO_HIGH: Final = b"0" * 16
_ZERO: Final = 0x30
_THREE: Final = 0x33


Context = tuple[bytes, bytes, tuple[bytes, ...]]
"""One span's place in its trace.

`traceparent` as it is forwarded (version 00, this span's id, the flags); the id of the span above, 16 hex
digits, empty for the root; names of received fields that give way to ours. Compiled, a tuple is no object.
"""


def begin_span(head: RequestHead, ids: Ids, extra: Headers) -> Context:
    """Continue the trace that a request belongs to, or begin one; the fields to forward go to `extra`."""
    fields = head.fields
    received = fields.get(b"traceparent")
    is_b3 = (
        b"b3" in fields or b"x-b3-traceid" in fields or b"x-b3-sampled" in fields or b"x-b3-flags" in fields
    )
    if received is not None and _TRACEPARENT.fullmatch(received) is not None and _is_alone(head):
        own = b"00%b%b%b" % (received[2:36], ids.hex(16).encode(), _known_flags(received))
        context: Context = (own, received[36:52], (b"traceparent",))
        if is_b3:
            context = _beside_b3(context, head, extra)
    elif is_b3:
        context = _from_b3(head, ids, extra)
    elif received is not None or b"tracestate" in fields:
        context = (ids.traceparent(), b"", _present(head, (b"traceparent", b"tracestate")))
    else:
        context = (ids.traceparent(), b"", ())
    extra.append((b"traceparent", context[0]))
    return context


def _is_alone(head: RequestHead) -> bool:
    """Two traceparents name no trace (the W3C's own test suite has it so)."""
    return head.repeated is None or b"traceparent" not in head.repeated


def _known_flags(received: bytes) -> bytes:
    """`-01`: sampled and random go on; what nobody has defined is 0 (Trace Context 2 §3.2.2.5)."""
    if received[53] == _ZERO and received[54] <= _THREE:
        return received[52:55]
    return b"-0%d" % (int(received[54:55], 16) & 3)


def is_sampled(traceparent: bytes) -> bool:
    """Whether its trace is recorded by everybody (W3C §3.2.2.5.1)."""
    return traceparent[54] in _ODD_DIGITS


def next_attempt(traceparent: bytes, ids: Ids, extra: Headers) -> tuple[bytes, Headers]:
    """The same trace with a span id for another attempt, and the fields that carry it."""
    span_id, new_id = traceparent[36:52], ids.hex(16).encode()
    changed = [(name, value.replace(span_id, new_id)) for name, value in extra]
    return traceparent.replace(span_id, new_id), changed


def _from_b3(head: RequestHead, ids: Ids, extra: Headers) -> Context:
    """A decision may come without ids: then the trace is new, and not the decision."""
    fields, drawn = head.fields, ids.traceparent()
    dropped = _present(head, (*_B3_NAMES, b"traceparent", b"tracestate"))
    single = fields.get(b"b3")
    if single is not None:
        found = _B3_SINGLE.fullmatch(single)
    else:
        both = b"%b %b" % (fields.get(b"x-b3-traceid", b""), fields.get(b"x-b3-spanid", b""))
        found = _B3_IDS.fullmatch(both)
    decision = _decision(head)
    shown, parent, span_id = drawn[3:35], b"", drawn[36:52]
    if found is not None and found[1].strip(b"0") and found[2].strip(b"0"):
        shown, parent = found[1], found[2]
    elif not decision:
        return drawn, b"", dropped
    flags = b"0%b" % (b"1" if decision == b"d" else decision) if decision else drawn[53:55]
    _add_b3(extra, shown, span_id, parent, decision or flags[1:], is_single=single is not None)
    return b"00-%b-%b-%b" % (shown.rjust(32, b"0"), span_id, flags), parent, dropped


def _beside_b3(context: Context, head: RequestHead, extra: Headers) -> Context:
    """Both came: W3C's counts, and B3 tells the same, or its readers would hang spans elsewhere."""
    own, parent, _ = context
    decision = b"1" if is_sampled(own) else b"0"
    if decision == b"1" and _decision(head) == b"d":
        decision = b"d"
    shown = own[19:35] if own[3:19] == _NO_HIGH else own[3:35]  # some readers of B3 know short ids only
    _add_b3(extra, shown, own[36:52], parent, decision, is_single=b"b3" in head.fields)
    return own, parent, _present(head, (*_B3_NAMES, b"traceparent"))


def _decision(head: RequestHead) -> bytes:
    """B3's `0`, `1` or `d`; empty when the request leaves it open."""
    fields = head.fields
    single = fields.get(b"b3")
    if single is not None:
        found = _B3_SINGLE.fullmatch(single)
        return _DECISIONS.get(single if found is None else found[3] or b"", b"")
    if fields.get(b"x-b3-flags") == b"1":
        return b"d"
    return _DECISIONS.get(fields.get(b"x-b3-sampled", b""), b"")


def _add_b3(
    extra: Headers, trace_id: bytes, span_id: bytes, parent: bytes, decision: bytes, *, is_single: bool
) -> None:
    """Write B3 as it came; debug stands for sampled too, so only one of both is sent."""
    if is_single:
        extra.append((b"b3", b"%b-%b-%b" % (trace_id, span_id, decision)))
        return
    extra += [(b"x-b3-traceid", trace_id), (b"x-b3-spanid", span_id)]
    if parent:
        extra.append((b"x-b3-parentspanid", parent))
    extra.append((b"x-b3-flags", b"1") if decision == b"d" else (b"x-b3-sampled", decision))


def _present(head: RequestHead, names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    fields = head.fields
    return tuple(name for name in names if name in fields)
