"""Why a head is refused: the slow road, taken once per bad connection.

The order of the questions is the order in which a parser fed byte by byte learns the answers, so a head gets
the same refusal however it was cut: stray CR or LF in the first line, form of the first line, stray CR or
LF in the rest, size, then fields from the top.
"""

from __future__ import annotations

import re

from proxy.http.events import Refused
from proxy.http.fields import read_field
from proxy.http.limits import Limits

__all__ = ["HTTP2_PREFACE", "explain_first_line", "explain_request", "explain_response", "explain_rest"]

PREFACE_LINE = b"PRI * HTTP/2.0"
HTTP2_PREFACE = "http2-preface"
"""Reason of the refusal of what is the first line of HTTP/2: a connection may go on as one of HTTP/2."""

_STRAY = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n")
_REQUEST_SHAPE = re.compile(rb"[A-Z-]+ [!-~]+ HTTP/1\.[01]")
_STATUS_SHAPE = re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_VERSION = re.compile(rb"[!-~]+ [!-~]+ HTTP/[0-9]\.[0-9]")
_LINE_SLACK_BYTES = 64
"""Room for method, version and spaces beside the longest target."""


def explain_request(raw: bytes, limits: Limits) -> Refused:
    """Name what is wrong with a complete request head that the fast road did not take."""
    return _explain(raw, limits, is_request=True)


def explain_response(raw: bytes, limits: Limits) -> Refused:
    """Name what is wrong with a complete response head."""
    return _explain(raw, limits, is_request=False)


def _explain(raw: bytes, limits: Limits, *, is_request: bool) -> Refused:
    return (
        explain_first_line(raw, limits, is_request=is_request)
        or explain_rest(raw[: limits.head_bytes], 0, limits.head_bytes, is_request=is_request)
        or _explain_fields(raw, limits, 400 if is_request else 502)
    )


def explain_first_line(prefix: bytes, limits: Limits, *, is_request: bool) -> Refused | None:
    """What is wrong with the first line of a head, complete or not; None when it may still become one."""
    status = 400 if is_request else 502
    line_max = limits.target_bytes + _LINE_SLACK_BYTES
    end = prefix.find(b"\r\n", 0, line_max)
    first = prefix[: end + 2] if end >= 0 else prefix[:line_max]
    if _STRAY.search(first) is not None:
        return _stray(status)
    if end >= 0:
        return _explain_line_shape(prefix[:end], is_request=is_request)
    if len(prefix) < line_max:
        return None
    if is_request:
        return Refused(414, "target-too-long", f"the target is longer than {limits.target_bytes} bytes")
    return Refused(502, "status-line", "the status line is too long")


def explain_rest(part: bytes, size: int, limit: int, *, is_request: bool) -> Refused | None:
    """What is wrong with `part`, bytes after the first line, of an unfinished head of `size` bytes."""
    if _STRAY.search(part, 1 if part[:1] == b"\n" else 0) is not None:
        return _stray(400 if is_request else 502)
    if size < limit:
        return None
    status = 431 if is_request else 502
    return Refused(status, "head-too-large", f"the head is longer than {limit} bytes")


def _stray(status: int) -> Refused:
    return Refused(
        status, "bare-cr-or-lf", "lines end with CRLF, and CR or LF stand nowhere else (RFC 9112 §2.2)"
    )


def _explain_line_shape(line: bytes, *, is_request: bool) -> Refused | None:
    if not is_request:
        if _STATUS_SHAPE.fullmatch(line) is not None:
            return None
        return Refused(502, "status-line", "not a status line of HTTP/1.0 or 1.1 with a status of 100 to 599")
    if _REQUEST_SHAPE.fullmatch(line) is not None:
        return None
    if line == PREFACE_LINE:
        return Refused(505, HTTP2_PREFACE, "HTTP/2 with prior knowledge, which is not spoken here")
    if _VERSION.fullmatch(line) is not None and line[-3:] not in (b"1.0", b"1.1"):
        return Refused(505, "version", "the version is not HTTP/1.0 or 1.1")
    return Refused(400, "request-line", "not METHOD SP target SP HTTP/1.1 (RFC 9112 §3)")


def _explain_fields(raw: bytes, limits: Limits, status: int) -> Refused:
    too_large = 431 if status == 400 else 502
    if len(raw) > limits.head_bytes:
        return Refused(too_large, "head-too-large", f"the head is longer than {limits.head_bytes} bytes")
    lines = raw.split(b"\r\n")[1:-2]
    if len(lines) > limits.fields:
        return Refused(too_large, "too-many-fields", f"the head has more than {limits.fields} fields")
    for line in lines:
        if read_field(line) is None:
            return _explain_line(line, status)
    return Refused(status, "head-incomplete", "the head does not end with an empty line")


def _explain_line(line: bytes, status: int) -> Refused:
    if line[:1] in (b" ", b"\t"):
        return Refused(status, "folded-line", "a field line begins with whitespace (RFC 9112 §5.2)")
    name, colon, _ = line.partition(b":")
    if not colon or not name:
        return Refused(status, "field-without-name", "a field line is not name, colon, value")
    if name[-1:] in (b" ", b"\t"):
        return Refused(
            status, "space-before-colon", "whitespace between field name and colon (RFC 9112 §5.1)"
        )
    if read_field(name + b":") is None:
        return Refused(status, "field-name", "a field name is not a token (RFC 9110 §5.6.2)")
    return Refused(status, "field-value", "a field value holds a control character (RFC 9110 §5.5)")
