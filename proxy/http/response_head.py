"""Response heads of HTTP/1.1, read and judged in one pass: see `request_head`."""

from __future__ import annotations

import re
from typing import Final

from proxy.http.diagnose import explain_response
from proxy.http.events import Framing, Refused
from proxy.http.framing import content_problem, options_of, take_fields
from proxy.http.head import ResponseHead
from proxy.http.limits import DEFAULT_LIMITS, Limits
from proxy.http.native import codec

__all__ = ["judge_response_head", "parse_response_head"]

_READ: Final = None if codec is None else codec.response
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([^\x00-\x08\x0a-\x1f\x7f]*+))?")
_WITHOUT_CONTENT: Final = ("HEAD", "CONNECT")
_NONE: Final = Framing.NONE
_BY_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_UNTIL_CLOSE: Final = Framing.UNTIL_CLOSE


def parse_response_head(
    raw: bytes, request_method: str, limits: Limits = DEFAULT_LIMITS
) -> ResponseHead | Refused:
    """Read a complete response head; the method of its request decides whether content follows."""
    if _READ is not None and request_method not in _WITHOUT_CONTENT:
        head = _READ(raw, limits.head_bytes, limits.fields)
        if head is not None:
            return head
    return judge_response_head(raw, request_method, limits)


def judge_response_head(
    raw: bytes, request_method: str, limits: Limits = DEFAULT_LIMITS
) -> ResponseHead | Refused:
    """As `parse_response_head`, in Python alone."""
    lines = raw.split(b"\r\n")
    status_line = _STATUS_LINE.fullmatch(lines[0])
    if status_line is None or len(raw) > limits.head_bytes or len(lines) - 3 > limits.fields:
        return explain_response(raw, limits)
    head = ResponseHead()
    if not take_fields(head, lines):
        return explain_response(raw, limits)
    minor, status_text, reason = status_line.groups()
    status = head.status = int(status_text)
    head.minor = 1 if minor == b"1" else 0
    head.reason = reason or b""
    head.is_interim = status < 200 and status != 101
    head.upgrade = None
    head.content_length = 0
    return _judge_response(head, request_method) or head


def _judge_response(head: ResponseHead, request_method: str) -> Refused | None:
    fields = head.fields
    status = head.status
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    if coding is not None or length is not None:
        problem = content_problem(head, length, coding)
        if problem is not None:
            return Refused(502, *problem)
    connection = fields.get(b"connection")
    if connection is None:
        head.keep_alive = head.minor == 1
    else:
        options = options_of(head, b"connection")
        head.keep_alive = b"close" not in options and (head.minor == 1 or b"keep-alive" in options)
    if status < 200 or status in (204, 304) or request_method == "HEAD" or _is_tunnel(head, request_method):
        head.framing = _NONE
        # RFC 9112 §6.3: no content whatever the fields say. A server that announced some may send it.
        if status == 204 and (coding is not None or length not in (None, b"0")):
            head.keep_alive = False
        if status == 101:
            head.upgrade = fields.get(b"upgrade", b"").lower()
    elif coding is not None:
        head.framing = _CHUNKED
    elif length is not None:
        head.framing = _BY_LENGTH
        head.content_length = int(length)
    else:
        head.framing = _UNTIL_CLOSE
        head.keep_alive = False
    return None


def _is_tunnel(head: ResponseHead, request_method: str) -> bool:
    return request_method == "CONNECT" and 200 <= head.status < 300
