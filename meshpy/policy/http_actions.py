"""What a rule of VirtualService `http[]` does to requests: redirect, direct response, rewrite, fault."""

from __future__ import annotations

import base64
import binascii

from meshpy.model.grpc import GRPC_CODES, http_status_of
from meshpy.model.route import DerivePort, DirectResponse, Fault, Redirect, Rewrite
from meshpy.policy.reader import Cursor, Fields, suggestion
from meshpy.policy.strings import regex

__all__ = ["direct_response", "fault", "percentage", "redirect", "rewrite"]

MAX_BODY_BYTES = 1024 * 1024
"""Istio's limit for `directResponse.body`."""

_REDIRECT = ("uri", "prefixRewrite", "authority", "port", "derivePort", "scheme", "redirectCode")
_OLD_PERCENT = ("is Istio's old form", "write percentage: {value: 5}")
_NEVER_BUILT = "is hidden in Istio's own reference and does nothing there"


def redirect(cursor: Cursor) -> Redirect:
    """`redirect`: what is not written stays as the request had it."""
    fields = cursor.fields(_REDIRECT)
    fields.only_one("uri", "prefixRewrite")
    fields.only_one("port", "derivePort")
    code = fields.integer("redirectCode", 300, 399)
    at_code, at_scheme, at_derived = (fields.get(name) for name in ("redirectCode", "scheme", "derivePort"))
    if at_code is not None and code not in (301, 302, 303, 307, 308):
        at_code.problem(f"{code} is no redirect with a location", "write 301, 302, 303, 307 or 308")
    if not any(name in fields for name in ("uri", "prefixRewrite", "authority", "port", "scheme")):
        cursor.problem("changes nothing, the client would loop", "write uri:, authority:, port: or scheme:")
    words = tuple(word.value for word in DerivePort)
    derived = at_derived.choice(words) if at_derived is not None else ""
    return Redirect(
        uri=fields.text("uri") if "uri" in fields else None,
        prefix_rewrite=fields.text("prefixRewrite") if "prefixRewrite" in fields else None,
        authority=fields.text("authority") if "authority" in fields else None,
        port=fields.integer("port", 1, 65535),
        scheme=at_scheme.choice(("http", "https")) if at_scheme is not None else None,
        code=code or 301,
        derive_port=DerivePort(derived) if derived in words else None,
    )


def direct_response(cursor: Cursor) -> DirectResponse:
    """`directResponse`: a status, and content as text or as base64."""
    fields = cursor.fields(("status", "body"))
    status, body = fields.required("status", "status: 503"), fields.get("body")
    text = encoded = ""
    if body is not None:
        inner = body.fields(("string", "bytes"))
        if not inner:
            body.problem("has no content", "write string: or bytes:, or remove it")
        inner.only_one("string", "bytes")
        text, at_bytes = inner.text("string"), inner.get("bytes")
        encoded = _base64(at_bytes) if at_bytes is not None else ""
        if len(text.encode()) > MAX_BODY_BYTES or len(encoded) * 3 // 4 > MAX_BODY_BYTES:
            body.problem("the content is longer than 1 MiB", "serve it from a service")
    return DirectResponse(status.integer(200, 599) if status is not None else 200, text, encoded)


def _base64(cursor: Cursor) -> str:
    text = cursor.text()
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        cursor.problem("is no base64", "write the bytes in base64, or string: for text")
        return ""
    return text


def rewrite(cursor: Cursor) -> Rewrite:
    """`rewrite`: of the path by prefix or expression, and of the authority."""
    fields = cursor.fields(("uri", "uriRegexRewrite", "authority"))
    fields.only_one("uri", "uriRegexRewrite")
    if not fields:
        cursor.problem("rewrites nothing", "write uri:, uriRegexRewrite: or authority:")
    pattern, replacement = None, ""
    expression = fields.get("uriRegexRewrite")
    if expression is not None:
        inner = expression.fields(("match", "rewrite"))
        at_match = inner.required("match", "match: ^/v1/(.*)$")
        pattern = regex(at_match) if at_match is not None else None
        inner.required("rewrite", r"rewrite: /\1")
        replacement = inner.text("rewrite")
    uri, authority = fields.get("uri"), fields.get("authority")
    return Rewrite(
        uri.text() if uri is not None else None,
        pattern,
        replacement,
        authority.text() if authority is not None else None,
    )


def fault(cursor: Cursor) -> Fault:
    """`fault`: a delay, an abort with an HTTP or a gRPC status, each for its share of requests."""
    fields = cursor.fields(("delay", "abort"))
    if not fields:
        cursor.problem("injects nothing", "write delay: or abort:")
    delay, abort = fields.get("delay"), fields.get("abort")
    delay_s, delay_pct = _delay(delay) if delay is not None else (0.0, 0.0)
    if abort is None:
        return Fault(delay_s, delay_pct)
    inner = abort.fields(
        ("httpStatus", "grpcStatus", "percentage"),
        {
            "http2Error": (_NEVER_BUILT, "write httpStatus: or grpcStatus:"),
            "percent": _OLD_PERCENT,
        },
    )
    inner.only_one("httpStatus", "grpcStatus")
    grpc = inner.get("grpcStatus")
    code = grpc if grpc is not None else inner.required("httpStatus", "httpStatus: 503")
    pct = _share(inner)
    if grpc is not None:
        number = _grpc_status(grpc)
        return Fault(delay_s, delay_pct, http_status_of(number), pct, number)
    return Fault(delay_s, delay_pct, code.integer(200, 599) if code is not None else 0, pct)


def _delay(cursor: Cursor) -> tuple[float, float]:
    inner = cursor.fields(
        ("fixedDelay", "percentage"),
        {"percent": _OLD_PERCENT, "exponentialDelay": (_NEVER_BUILT, "write fixedDelay:")},
    )
    fixed = inner.required("fixedDelay", "fixedDelay: 2s")
    return fixed.duration(0.001) if fixed is not None else 0.0, _share(inner)


def _grpc_status(cursor: Cursor) -> int:
    name = cursor.text()
    if name not in GRPC_CODES:
        cursor.problem(f"{name!r} is no gRPC status", suggestion(name, tuple(GRPC_CODES)))
    return GRPC_CODES.get(name, 14)


def _share(fields: Fields) -> float:
    """Istio injects into no request when it is absent; that silence is refused here."""
    cursor = fields.required("percentage", "percentage: {value: 100}")
    return percentage(cursor) if cursor is not None else 0.0


def percentage(cursor: Cursor) -> float:
    """`{value: 5}`, in percent."""
    value = cursor.fields(("value",)).required("value", "value: 5")
    return value.number(0, 100) if value is not None else 0.0
