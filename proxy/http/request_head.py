"""Request heads of HTTP/1.1, read and judged in one pass.

Hot file, 2.4 µs of a request (PERFORMANCE). So: one regular expression for the first line, one dictionary
look-up for a field line that was seen before (see `fields`), no second pass when all is well. Why a head is
refused is found out by `diagnose`, off this road. Heads of the plainest form are read in C where `native` was
built (0.6 µs); all others, and every refusal, come from here.

Strictness: what two servers could read in two ways is refused (RFC 9112 §2.2, §3, §5, §6.3, §11.2). HTTP/1.0
is accepted for health checkers that still speak it: Host is required, transfer codings are refused and
the connection is closed after the answer. Identical repeated Content-Length fields are refused as well.
"""

from __future__ import annotations

import re
from typing import Final

from meshpy.engine.normalise import SAFE_TARGET
from proxy.http.authority import parse_authority
from proxy.http.diagnose import explain_request
from proxy.http.events import Framing, Refused
from proxy.http.framing import content_problem, options_of, take_fields
from proxy.http.head import RequestHead
from proxy.http.limits import DEFAULT_LIMITS, Limits
from proxy.http.native import codec
from proxy.http.target import METHODS, Target, read_target

__all__ = ["judge_request_head", "parse_request_head"]

_READ: Final = None if codec is None else codec.request
_REQUEST_LINE: Final = re.compile(rb"([A-Z-]++) ([!-~]++) HTTP/1\.([01])")
_NONE: Final = Framing.NONE
_BY_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED


def parse_request_head(
    raw: bytes,
    limits: Limits = DEFAULT_LIMITS,
    *,
    allow_connect: bool = False,
) -> RequestHead | Refused:
    """Read a complete request head: all bytes up to and including the empty line."""
    if _READ is not None:
        head = _READ(raw, limits.head_bytes, limits.fields, limits.target_bytes)
        if head is not None:
            return head
    return judge_request_head(raw, limits, allow_connect=allow_connect)


def judge_request_head(
    raw: bytes, limits: Limits = DEFAULT_LIMITS, *, allow_connect: bool = False
) -> RequestHead | Refused:
    """As `parse_request_head`, in Python alone."""
    lines = raw.split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(lines[0])
    if request_line is None or len(raw) > limits.head_bytes or len(lines) - 3 > limits.fields:
        return explain_request(raw, limits)
    head = RequestHead()
    if not take_fields(head, lines):
        return explain_request(raw, limits)
    method, target, minor = request_line.groups()
    head.raw_target = target
    head.minor = 1 if minor == b"1" else 0
    fields = head.fields
    known = METHODS.get(method)
    if known is None:
        return Refused(501, "method-unknown", "the method is not one that HTTP registers")
    head.method = known
    if len(target) > limits.target_bytes:
        return Refused(414, "target-too-long", f"the target is longer than {limits.target_bytes} bytes")
    safe = SAFE_TARGET.fullmatch(target)
    host = fields.get(b"host")
    authority = parse_authority(host) if host is not None else None
    if authority is None or (head.repeated is not None and b"host" in head.repeated):
        return _refuse_host(head)
    head.authority = authority
    if safe is not None and known != "CONNECT":
        path, query = safe.groups()
        head.target = target
        head.path = path.decode("ascii")
        head.query = query.decode("ascii") if query else ""
    else:
        outcome = read_target(known, target, allow_connect=allow_connect)
        if isinstance(outcome, Refused):
            return outcome
        _take_target(head, outcome)
    return _judge_request(head) or head


def _refuse_host(head: RequestHead) -> Refused:
    if head.repeated is not None and b"host" in head.repeated:
        return Refused(400, "host-repeated", "more than one Host field (RFC 9112 §3.2)")
    if b"host" not in head.fields:
        return Refused(400, "host-missing", "a request must name its Host (RFC 9112 §3.2)")
    return Refused(400, "host-invalid", "Host is no host name or address with an optional port")


def _take_target(head: RequestHead, target: Target) -> None:
    head.target = target.forward
    head.path = target.path
    head.query = target.query
    if target.authority is None:
        return
    # RFC 9112 §3.2.2: the target's authority wins, and Host is rewritten so that the next hop agrees.
    head.authority = target.authority
    host = target.authority.text.encode("ascii")
    head.fields[b"host"] = host
    head.headers = [(name, host if name.lower() == b"host" else value) for name, value in head.headers]


def _judge_request(head: RequestHead) -> Refused | None:
    """Framing and connection control; fills the rest of the head."""
    fields = head.fields
    head.framing = _NONE
    head.content_length = 0
    head.upgrade = None
    head.expect_continue = False
    if b"content-length" in fields or b"transfer-encoding" in fields:
        refused = _judge_content(head)
        if refused is not None:
            return refused
    connection = fields.get(b"connection")
    if connection is None or connection == b"keep-alive":
        head.keep_alive = head.minor == 1
    else:
        options = options_of(head, b"connection")
        head.keep_alive = head.minor == 1 and b"close" not in options
        if b"upgrade" in options and head.minor == 1 and head.framing is _NONE:
            head.upgrade = _wanted_protocol(head)
    if b"expect" in fields:
        if any(value.lower() != b"100-continue" for value in head.get_all(b"expect")):
            return Refused(417, "expect-unknown", "the only expectation is 100-continue (RFC 9110 §10.1.1)")
        head.expect_continue = head.minor == 1 and head.framing is not _NONE and head.content_length != 0
        if head.framing is _CHUNKED:
            head.expect_continue = head.minor == 1
    return None


def _judge_content(head: RequestHead) -> Refused | None:
    """RFC 9112 §6.3, without its leniency: one way to know the length, or 400."""
    length = head.fields.get(b"content-length")
    coding = head.fields.get(b"transfer-encoding")
    if head.method in ("TRACE", "CONNECT"):
        return Refused(400, "content-forbidden", f"{head.method} carries no content (RFC 9110 §9.3)")
    problem = content_problem(head, length, coding)
    if problem is not None:
        status = 501 if problem[0] == "transfer-encoding-unknown" else 400
        return Refused(status, *problem)
    if coding is not None:
        head.framing = _CHUNKED
    elif length is not None:
        head.framing = _BY_LENGTH
        head.content_length = int(length)
    return None


def _wanted_protocol(head: RequestHead) -> bytes | None:
    """One protocol and not h2c: a tunnel through which a client could speak past policy (h2csmuggler)."""
    protocols = options_of(head, b"upgrade")
    if len(protocols) != 1 or protocols[0] in (b"", b"h2c") or protocols[0].startswith(b"http/"):
        return None
    return protocols[0]
