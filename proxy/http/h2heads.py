"""Fields of HTTP/2 as heads and back (RFC 9113 §8): the bridge between the two protocols' messages.

What is malformed by RFC 9113 §8.1.1 is a `Malformed`, for which the stream is reset; what is well formed and
not served (an unknown method, a path that normalisation refuses) is a `Refused`, which is answered.
A head that was read says no more than one of HTTP/1.1 would: Host is the authority, crumbs of Cookie are
joined, framing is by length, to the end of the stream (`CHUNKED`), or none.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from meshpy.engine.normalise import SAFE_TARGET
from proxy.http.authority import parse_authority
from proxy.http.events import Framing, Header, Headers, Refused
from proxy.http.h2frames import H2Limits
from proxy.http.head import RequestHead, ResponseHead
from proxy.http.hpack import BadField
from proxy.http.hygiene import HOP_BY_HOP, is_trailer_allowed, nominated
from proxy.http.target import METHODS, read_target

__all__ = [
    "Malformed",
    "read_request",
    "read_response",
    "read_trailers",
    "request_fields",
    "response_fields",
    "trailer_fields",
]

_LENGTH = re.compile(rb"[0-9]{1,18}")
_STATUS = re.compile(rb"[1-5][0-9]{2}")
_FORBIDDEN = frozenset(
    b"connection keep-alive proxy-connection transfer-encoding upgrade http2-settings".split()
)
"""RFC 9113 §8.2.2. Passed on over HTTP/1.1 they would frame or switch another's connection."""

_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
_SCHEMES = (b"http", b"https")
_COLON = ord(":")
_NO_CONTENT = Framing.NONE


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that must not be passed on.

    Args:
        reason: a short code for logs.
        detail: one sentence; holds no bytes of the peer.
    """

    reason: str
    detail: str


def _split(fields: Headers, pseudo: dict[bytes, bytes], headers: Headers) -> Malformed | None:
    """Take pseudo-header fields from regular ones."""
    for field in fields:
        name = field[0]
        if type(field) is BadField:
            return Malformed(
                "field", "a name that is no lower-case token, or a value with a control or blank around it"
            )
        if name[0] != _COLON:
            headers.append(field)
        elif headers:
            return Malformed("pseudo-header-order", "a pseudo-header field after a regular one")
        elif name in pseudo:
            return Malformed("pseudo-header-repeated", "a pseudo-header field twice")
        else:
            pseudo[name] = field[1]
    return None


def _take_fields(head: RequestHead | ResponseHead, headers: Headers) -> Malformed | None:
    fields = dict(headers)
    head.headers = headers
    head.fields = fields
    head.repeated = None
    if len(fields) != len(headers):
        values: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            values.setdefault(name, []).append(value)
        cookies = values.get(b"cookie")
        if cookies is not None and len(cookies) > 1:
            # RFC 9113 §8.2.3: one cookie string may come in pieces, for the sake of compression.
            values[b"cookie"] = [b"; ".join(cookies)]
            headers = [field for field in headers if field[0] != b"cookie"]
            headers.append((b"cookie", values[b"cookie"][0]))
            head.headers = headers
        head.fields = {name: each[0] for name, each in values.items()}
        head.repeated = {name: each for name, each in values.items() if len(each) > 1} or None
    if not _FORBIDDEN.isdisjoint(fields):
        return Malformed("connection-field", "a field of one connection of HTTP/1.1 (RFC 9113 §8.2.2)")
    return None


def _take_length(head: RequestHead | ResponseHead, *, is_end: bool) -> Malformed | None:
    """How long the content is."""
    length = head.fields.get(b"content-length")
    head.content_length = 0
    if length is None:
        head.framing = _NO_CONTENT if is_end else Framing.CHUNKED
        return None
    if (head.repeated is not None and b"content-length" in head.repeated) or _LENGTH.fullmatch(
        length
    ) is None:
        return Malformed("content-length", "Content-Length is not one number of 1 to 18 digits")
    head.framing = Framing.LENGTH
    head.content_length = int(length)
    return None


def read_request(fields: Headers, limits: H2Limits, *, is_end: bool) -> RequestHead | Refused | Malformed:
    """A request's head from the fields of its first block."""
    pseudo: dict[bytes, bytes] = {}
    headers: Headers = []
    problem = _split(fields, pseudo, headers)
    if problem is not None:
        return problem
    head = RequestHead()
    problem = _take_fields(head, headers) or _check_request(head, pseudo)
    if problem is not None:
        return problem
    known = METHODS.get(pseudo[b":method"])
    if known is None:
        return Refused(501, "method-unknown", "the method is not one that HTTP registers")
    head.method = known
    problem = _take_length(head, is_end=is_end)
    if problem is None and is_end and head.content_length:
        problem = Malformed("content-length", "Content-Length announces content that does not come")
    if problem is not None:
        return problem
    authority = _take_authority(head, pseudo)
    if authority is not None:
        return authority
    head.minor = 2
    head.comes_again = False
    head.keep_alive = True
    head.upgrade = None
    expect = head.fields.get(b"expect")
    head.expect_continue = expect is not None and not is_end
    if expect is not None and expect.lower() != b"100-continue":
        return Refused(417, "expect-unknown", "the only expectation is 100-continue (RFC 9110 §10.1.1)")
    return _take_target(head, pseudo.get(b":path", b""), limits) or head


def _check_request(head: RequestHead, pseudo: dict[bytes, bytes]) -> Malformed | None:
    if not pseudo.keys() <= _REQUEST_PSEUDO:
        return Malformed("pseudo-header-unknown", "a pseudo-header field that a request does not have")
    method = pseudo.get(b":method")
    if not method:
        return Malformed("pseudo-header-missing", "a request without :method")
    if method == b"CONNECT":
        if b":scheme" in pseudo or b":path" in pseudo or b":authority" not in pseudo:
            return Malformed(
                "connect", "CONNECT has :authority and neither :scheme nor :path (RFC 9113 §8.5)"
            )
    elif not pseudo.get(b":path") or pseudo.get(b":scheme") not in _SCHEMES:
        return Malformed(
            "pseudo-header-missing", "a request without :path, or of a :scheme other than HTTP's"
        )
    te = head.fields.get(b"te")
    if te is not None and (
        te.lower() != b"trailers" or (head.repeated is not None and b"te" in head.repeated)
    ):
        return Malformed("te", "TE is 'trailers' or absent (RFC 9113 §8.2.2)")
    return None


def _take_authority(head: RequestHead, pseudo: dict[bytes, bytes]) -> Refused | Malformed | None:
    """`:authority` and Host are one: what policy sees, what the next hop gets."""
    named, host = pseudo.get(b":authority"), head.fields.get(b"host")
    if host is not None and head.repeated is not None and b"host" in head.repeated:
        return Malformed("host-repeated", "more than one Host field")
    raw = named if named is not None else host
    if raw is None:
        return Refused(400, "host-missing", "a request names its authority")
    if host is not None and named is not None and host.lower() != named.lower():
        return Malformed("host-differs", "Host and :authority differ (RFC 9113 §8.3.1)")
    authority = parse_authority(raw)
    if authority is None:
        return Refused(400, "host-invalid", ":authority is no host name or address with an optional port")
    head.authority = authority
    if host is None:
        head.headers = [(b"host", raw), *head.headers]
        head.fields[b"host"] = raw
    return None


def _take_target(head: RequestHead, path: bytes, limits: H2Limits) -> Refused | None:
    head.raw_target = path
    if len(path) > limits.target_bytes:
        return Refused(414, "target-too-long", f"the target is longer than {limits.target_bytes} bytes")
    safe = SAFE_TARGET.fullmatch(path)
    if safe is not None and head.method != "CONNECT":
        plain, query = safe.groups()
        head.target = path
        head.path = plain.decode("ascii")
        head.query = query.decode("ascii") if query else ""
        return None
    if head.method != "CONNECT" and path[:1] != b"/" and (path != b"*" or head.method != "OPTIONS"):
        return Refused(400, "target-form", ":path begins with '/' (RFC 9113 §8.3.1)")
    if path.translate(None, _VISIBLE):
        return Refused(400, "target-byte", "the target holds a byte that is not visible ASCII")
    outcome = read_target(head.method, path, allow_connect=False)
    if isinstance(outcome, Refused):
        return outcome
    head.target, head.path, head.query = outcome.forward, outcome.path, outcome.query
    return None


_VISIBLE = bytes(range(0x21, 0x7F))


def read_response(fields: Headers, method: str, *, is_end: bool) -> ResponseHead | Malformed:
    """A response's head; the method of its request decides whether content follows."""
    pseudo: dict[bytes, bytes] = {}
    headers: Headers = []
    problem = _split(fields, pseudo, headers)
    if problem is not None:
        return problem
    status_text = pseudo.get(b":status", b"")
    if len(pseudo) != 1 or _STATUS.fullmatch(status_text) is None:
        return Malformed(
            "status", "a response has :status, a number of 100 to 599, and no other pseudo-header"
        )
    head = ResponseHead()
    problem = _take_fields(head, headers) or _take_length(head, is_end=is_end)
    if problem is not None:
        return problem
    status = head.status = int(status_text)
    if status == 101:
        return Malformed("status", "HTTP/2 has no 101 (RFC 9113 §8.6)")
    head.minor = 2
    head.comes_again = False
    head.reason = b""
    head.is_interim = status < 200
    head.keep_alive = True
    head.upgrade = None
    if head.is_interim:
        if is_end:
            return Malformed("status", "an interim response ends the stream")
        head.framing = _NO_CONTENT
    elif method == "HEAD" or status in (204, 304):
        head.framing = _NO_CONTENT
    elif is_end:
        if head.content_length:
            return Malformed("content-length", "Content-Length announces content that does not come")
        head.framing = Framing.LENGTH  # to a client of HTTP/1.1: Content-Length: 0
    return head


def read_trailers(fields: Headers) -> tuple[Header, ...] | Malformed:
    """A trailer section, without the fields that may not be in one."""
    for field in fields:
        if type(field) is BadField:
            return Malformed("trailer", "a trailer field whose name or value is no field's")
        if field[0][:1] == b":":
            return Malformed("trailer", "a pseudo-header field among the trailers")
        if field[0] in _FORBIDDEN:
            return Malformed("trailer", "a field of one connection among the trailers")
    return tuple(field for field in fields if is_trailer_allowed(field))


# -- writing


def _kept(head: RequestHead | ResponseHead, drop: Collection[bytes]) -> Headers:
    """Fields that pass the hop, names in lower case."""
    if head.minor == 2 or b"connection" not in head.fields:
        skipped = HOP_BY_HOP.union(drop) if drop else HOP_BY_HOP
    else:
        skipped = HOP_BY_HOP.union(nominated(head.get_all(b"connection")), drop)
    return [(lower, field[1]) for field in head.headers if (lower := field[0].lower()) not in skipped]


def request_fields(
    head: RequestHead,
    extra: Headers,
    *,
    target: bytes | None,
    host: bytes | None,
    drop: Collection[bytes],
    scheme: bytes,
) -> Headers:
    """The fields of a request for an upstream.

    Args:
        extra: fields of the proxy, written last.
        target, host: replace path and authority (a route's rewrite).
        drop: lower-case names that are not copied.
    """
    known = head.fields
    fields: Headers = [
        (b":method", head.method.encode("ascii")),
        (b":scheme", scheme),
        (b":authority", host or known[b"host"]),
        (b":path", head.target if target is None else target),
    ]
    fields += [field for field in _kept(head, drop) if field[0] != b"host"]
    if head.framing is Framing.LENGTH:
        fields.append((b"content-length", b"%d" % head.content_length))
    if head.expect_continue:
        fields.append((b"expect", b"100-continue"))
    if b"te" in known and _wants_trailers(head):
        fields.append((b"te", b"trailers"))
    fields += [(name.lower(), value) for name, value in extra]
    return fields


def response_fields(head: ResponseHead, extra: Headers, drop: Collection[bytes]) -> Headers:
    """The fields of a response for a client."""
    fields: Headers = [(b":status", b"%d" % head.status), *_kept(head, drop)]
    if head.framing is Framing.LENGTH:
        fields.append((b"content-length", b"%d" % head.content_length))
    elif head.framing is _NO_CONTENT and head.status >= 200 and head.status != 204:
        length = head.fields.get(b"content-length")
        if length is not None:
            fields.append((b"content-length", length))
    fields += [(name.lower(), value) for name, value in extra]
    return fields


def trailer_fields(trailers: tuple[Header, ...]) -> tuple[Header, ...]:
    """Trailers with names in lower case."""
    if len(trailers) == 1 and trailers[0][0].islower():
        return trailers
    return tuple((name.lower(), value) for name, value in trailers)


def _wants_trailers(head: RequestHead) -> bool:
    return any(
        part.strip(b" \t").lower() == b"trailers"
        for value in head.get_all(b"te")
        for part in value.split(b",")
    )
