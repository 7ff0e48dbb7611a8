"""Trace context in and out: W3C, B3, a span id of our own at every hop."""

import os
import re
from typing import NamedTuple

import pytest

from proxy.decide.headers import Ids
from proxy.decide.tracing import begin_span, is_sampled, next_attempt
from proxy.http.head import RequestHead
from proxy.http.request_head import parse_request_head

A, B = "a" * 32, "b" * 16


def head(*lines: str) -> RequestHead:
    text = "\r\n".join(("GET / HTTP/1.1", "Host: api", *lines)) + "\r\n\r\n"
    parsed = parse_request_head(text.encode("latin-1"))
    assert isinstance(parsed, RequestHead)
    return parsed


class Context(NamedTuple):
    """The names of what `begin_span` returns."""

    traceparent: bytes
    parent: bytes
    dropped: tuple[bytes, ...]


def begun(*lines, pct=1.0):
    extra: list[tuple[bytes, bytes]] = []
    return Context(*begin_span(head(*lines), Ids(os.urandom, pct), extra)), dict(extra)


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (f"00-{A}-{B}-01", "01"),
        (f"00-{A}-{B}-00", "00"),
        (f"cc-{A}-{B}-03-what-comes", "03"),
        (f"00-{A}-{B}-ff", "03"),
        (f"00-{A}-{B}-01-more", None),
        (f"00-{A}-{B}-01.", None),
        (f"cc-{A}-{B}-01.more", None),
        (f"00-{'0' * 32}-{B}-01", None),
        (f"00-{A}-{'0' * 16}-01", None),
        (f"ff-{A}-{B}-01", None),
        (f"00-{'A' * 32}-{B}-01", None),
        (f"00-{A}-{B}", None),
        ("garbage", None),
    ],
)
def test_a_readable_trace_goes_on_with_our_span_and_any_other_begins_anew(value, flags):
    context, extra = begun(f"traceparent: {value}")
    own = context.traceparent.decode()
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", own)
    assert context.dropped == (b"traceparent",)
    assert extra == {b"traceparent": context.traceparent}
    assert own[36:52] != B
    if flags is None:
        assert context.parent == b""
        assert own[3:35] != A
    else:
        assert (own[3:35], own[53:55], context.parent) == (A, flags, B.encode())


def test_a_request_without_a_trace_begins_one_and_drops_nothing():
    context, extra = begun()
    assert (context.parent, context.dropped, len(extra)) == (b"", (), 1)


def test_two_traceparents_are_none():
    context, extra = begun(
        f"traceparent: 00-{A}-{B}-01", f"traceparent: 00-{'c' * 32}-{B}-01", "tracestate: a=1"
    )
    assert context.traceparent[3:35] not in (A.encode(), b"c" * 32)
    assert context.parent == b""
    assert set(context.dropped) == {b"traceparent", b"tracestate"}
    assert list(extra) == [b"traceparent"]


@pytest.mark.parametrize(("pct", "low", "high"), [(0, 0, 0), (100, 2000, 2000), (25, 400, 600)])
def test_the_share_of_sampled_traces_is_the_one_that_was_asked_for(pct, low, high):
    ids = Ids(os.urandom, pct)
    assert low <= sum(is_sampled(ids.traceparent()) for _ in range(2000)) <= high


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("0b", True), ("0a", False)]
)
def test_the_lowest_bit_of_the_flags_says_sampled(flags, sampled):
    assert is_sampled(f"00-{A}-{B}-{flags}".encode()) is sampled


def test_single_b3_goes_on_in_its_own_form_and_as_traceparent():
    context, extra = begun(f"b3: {A}-{B}-1")
    own = context.traceparent.decode()
    assert (own[3:35], own[53:55], context.parent) == (A, "01", B.encode())
    assert extra[b"b3"].decode() == f"{A}-{own[36:52]}-1"
    assert context.dropped == (b"b3",)


@pytest.mark.parametrize(
    ("lines", "flags", "decision"),
    [
        (("x-b3-sampled: 1",), "01", (b"x-b3-sampled", b"1")),
        (("x-b3-sampled: 0",), "00", (b"x-b3-sampled", b"0")),
        (("x-b3-sampled: false",), "00", (b"x-b3-sampled", b"0")),
        (("x-b3-flags: 1",), "01", (b"x-b3-flags", b"1")),
    ],
)
def test_multi_b3_goes_on_with_a_short_id_widened(lines, flags, decision):
    context, extra = begun(f"x-b3-traceid: {B}", "x-b3-spanid: " + "c" * 16, *lines)
    own = context.traceparent.decode()
    assert (own[3:35], own[53:55], context.parent) == (B.rjust(32, "0"), flags, b"c" * 16)
    assert extra[b"x-b3-traceid"] == B.encode()
    assert extra[b"x-b3-spanid"] == own[36:52].encode()
    assert extra[b"x-b3-parentspanid"] == b"c" * 16
    assert decision in extra.items()


@pytest.mark.parametrize("line", ["b3: x", "x-b3-sampled: maybe", f"b3: {'0' * 32}-{B}", "x-b3-traceid: zz"])
def test_unreadable_b3_is_dropped_and_a_new_trace_begins(line):
    context, extra = begun(line)
    assert context.parent == b""
    assert len(context.dropped) == 1
    assert list(extra) == [b"traceparent"]


@pytest.mark.parametrize(
    ("line", "sampled", "goes_on"),
    [
        ("b3: 0", False, (b"b3", b"0")),
        ("b3: 1", True, (b"b3", b"1")),
        ("b3: d", True, (b"b3", b"d")),
        ("x-b3-sampled: 0", False, (b"x-b3-sampled", b"0")),
        ("x-b3-sampled: true", True, (b"x-b3-sampled", b"1")),
        ("x-b3-flags: 1", True, (b"x-b3-flags", b"1")),
    ],
)
def test_a_decision_of_b3_without_ids_decides_of_the_trace_that_begins(line, sampled, goes_on):
    context, extra = begun(line, pct=0 if sampled else 100)
    name, decision = goes_on
    assert is_sampled(context.traceparent) is sampled
    assert context.parent == b""
    assert extra[name].split(b"-")[-1] == decision
    assert context.traceparent[3:35] in extra.get(b"b3", extra.get(b"x-b3-traceid", b""))


@pytest.mark.parametrize(
    "lines", [(f"b3: {A}-{B}-d",), (f"x-b3-traceid: {A}", f"x-b3-spanid: {B}", "x-b3-flags: 1")]
)
def test_debug_goes_on_as_debug(lines):
    context, extra = begun(*lines)
    assert is_sampled(context.traceparent)
    assert extra.get(b"b3", b"-d").endswith(b"-d")
    assert (b"x-b3-flags" in extra) is (b"b3" not in extra)
    assert b"x-b3-sampled" not in extra


@pytest.mark.parametrize(
    ("lines", "goes_on"),
    [
        ((f"traceparent: 00-{A}-{B}-01", "tracestate: a=1"), True),
        (("tracestate: a=1",), False),
        (("traceparent: garbage", "tracestate: a=1"), False),
        ((f"b3: {A}-{B}-1", "tracestate: a=1"), False),
    ],
)
def test_tracestate_goes_on_only_with_the_trace_that_it_is_about(lines, goes_on):
    context, _ = begun(*lines)
    assert (b"tracestate" not in context.dropped) is goes_on


def test_traceparent_wins_over_b3_which_tells_the_same_from_there_on():
    context, extra = begun(f"traceparent: 00-{A}-{B}-01", f"b3: {'d' * 32}-{'e' * 16}-0")
    own = context.traceparent.decode()
    assert context.parent == B.encode()
    assert set(context.dropped) == {b"traceparent", b"b3"}
    assert extra[b"b3"].decode() == f"{A}-{own[36:52]}-1"


def test_the_next_sidecar_keeps_a_short_id_of_b3_short():
    context, extra = begun(f"traceparent: 00-{'0' * 16}{'a' * 16}-{B}-01", f"b3: {'a' * 16}-{B}-1")
    assert extra[b"b3"].split(b"-")[:2] == [b"a" * 16, context.traceparent[36:52]]


def test_another_attempt_is_another_span_of_the_same_trace_in_every_field():
    ids = Ids(os.urandom)
    extra: list[tuple[bytes, bytes]] = [(b"x-request-id", b"r")]
    context = Context(*begin_span(head(f"b3: {A}-{B}-1"), ids, extra))
    trace, changed = next_attempt(context.traceparent, ids, extra)
    fields = dict(changed)
    assert (trace[:36], trace[52:]) == (context.traceparent[:36], context.traceparent[52:])
    assert trace[36:52] != context.traceparent[36:52]
    assert fields[b"traceparent"] == trace
    assert fields[b"b3"].split(b"-")[1] == trace[36:52]
    assert fields[b"x-request-id"] == b"r"
