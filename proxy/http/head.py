"""Heads: a request or status line with its fields, read and judged in one pass.

Hot file, 2.4 µs of a request (PERFORMANCE). So: slots and no frozen dataclass, one regular expression for the
first line, one dictionary look-up for a field line that was seen before (see `fields`), no second pass when
all is well. Why a head is refused is found out by `diagnose`, off this road. Heads of the plainest form are
read in C where `native` was built (0.6 µs); all others, and every refusal, come from here.

Strictness: what two servers could read in two ways is refused (RFC 9112 §2.2, §3, §5, §6.3, §11.2). HTTP/1.0
is accepted for health checkers that still speak it: Host is required, transfer codings are refused and
the connection is closed after the answer. Identical repeated Content-Length fields are refused as well.
"""

from __future__ import annotations

import re

from meshpy.engine.normalise import SAFE_TARGET
from proxy.http.authority import Authority, known_authorities, parse_authority
from proxy.http.diagnose import explain_request, explain_response
from proxy.http.events import Framing, Header, Headers, Refused
from proxy.http.fields import known_lines, read_field
from proxy.http.hygiene import HOP_BY_HOP
from proxy.http.limits import DEFAULT_LIMITS, Limits
from proxy.http.native import codec
from proxy.http.target import METHODS, Target, read_target

__all__ = [
    "RequestHead",
    "ResponseHead",
    "judge_request_head",
    "judge_response_head",
    "parse_request_head",
    "parse_response_head",
]

_REQUEST_LINE = re.compile(rb"([A-Z-]++) ([!-~]++) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([^\x00-\x08\x0a-\x1f\x7f]*+))?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
"""At most 18 digits: always below 2^63, so no next hop can overflow on it."""

_WITHOUT_CONTENT = ("HEAD", "CONNECT")
_NONE, _BY_LENGTH, _CHUNKED, _UNTIL_CLOSE = Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.UNTIL_CLOSE


class RequestHead:
    """A request line and its fields; a value, though not frozen, for speed.

    Args:
        method: one of METHODS, upper case.
        raw_target: as received, for the log.
        target: what is forwarded: path normalised, query untouched (`normalise` has the rule); `*` for
            OPTIONS *, the authority for CONNECT.
        path: what policy and routes see; `*` for OPTIONS *, empty for CONNECT.
        query: without the `?`.
        minor: 0 or 1 of HTTP/1.x, 2 for HTTP/2.
        comes_again: of HTTP/2 alone: the connection has this very head for every equal request.
        headers: as sent, names included, order kept; Host is the target's authority when that had one.
        fields: lower-case name → its (first) value.
        repeated: lower-case name → all values, only for names that occur more than once; None if none does.
        authority: of the target, else of Host.
        content_length: bytes; 0 unless framing is LENGTH.
        keep_alive: whether the client's connection may serve another request.
        expect_continue: the client waits for a 100 before it sends the content.
        upgrade: the protocol in lower case that the client asks to switch to; never h2c (THREATS §4 A 36).
    """

    __slots__ = (
        "authority",
        "comes_again",
        "content_length",
        "expect_continue",
        "fields",
        "framing",
        "headers",
        "keep_alive",
        "method",
        "minor",
        "path",
        "query",
        "raw_target",
        "repeated",
        "target",
        "upgrade",
    )

    authority: Authority
    comes_again: bool
    content_length: int
    expect_continue: bool
    fields: dict[bytes, bytes]
    framing: Framing
    headers: Headers
    keep_alive: bool
    method: str
    minor: int
    path: str
    query: str
    raw_target: bytes
    repeated: dict[bytes, list[bytes]] | None
    target: bytes
    upgrade: bytes | None

    @property
    def host(self) -> str:
        """Lower case, without port and trailing dot."""
        return self.authority.host

    def get(self, name: bytes) -> bytes | None:
        """The first value of a field by its lower-case name."""
        return self.fields.get(name)

    def get_all(self, name: bytes) -> list[bytes]:
        """Every value of a field by its lower-case name: a rule must look at each (CVE-2026-26308)."""
        return _get_all(self.fields, self.repeated, name)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method} {self.authority.text}{self.path} {self.framing.value}>"


class ResponseHead:
    """A status line and its fields.

    Args:
        framing: what follows on the wire; NONE for an answer to HEAD, 1xx, 204, 304 and 2xx to CONNECT.
        keep_alive: whether the upstream connection may serve another request.
        upgrade: the protocol in lower case of a 101 (of any other status: None).
        is_interim: a 1xx other than 101: the final response is still to come.
    """

    __slots__ = (
        "comes_again",
        "content_length",
        "fields",
        "framing",
        "headers",
        "is_interim",
        "keep_alive",
        "minor",
        "reason",
        "repeated",
        "status",
        "upgrade",
    )

    comes_again: bool
    content_length: int
    fields: dict[bytes, bytes]
    framing: Framing
    headers: Headers
    is_interim: bool
    keep_alive: bool
    minor: int
    reason: bytes
    repeated: dict[bytes, list[bytes]] | None
    status: int
    upgrade: bytes | None

    def get(self, name: bytes) -> bytes | None:
        """The first value of a field by its lower-case name."""
        return self.fields.get(name)

    def get_all(self, name: bytes) -> list[bytes]:
        """Every value of a field by its lower-case name."""
        return _get_all(self.fields, self.repeated, name)

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.framing.value}>"


def _get_all(
    fields: dict[bytes, bytes], repeated: dict[bytes, list[bytes]] | None, name: bytes
) -> list[bytes]:
    if repeated is not None and name in repeated:
        return repeated[name]
    value = fields.get(name)
    return [] if value is None else [value]


if codec is not None:
    codec.setup(
        RequestHead, ResponseHead, _NONE, _BY_LENGTH, _CHUNKED, _UNTIL_CLOSE, HOP_BY_HOP, known_authorities,
        parse_authority,
    )  # fmt: skip


def parse_request_head(
    raw: bytes,
    limits: Limits = DEFAULT_LIMITS,
    *,
    allow_connect: bool = False,
) -> RequestHead | Refused:
    """Read a complete request head: all bytes up to and including the empty line."""
    if codec is not None:
        head = codec.request(raw, limits.head_bytes, limits.fields, limits.target_bytes)
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
    if not _take_fields(head, lines):
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


def _take_fields(head: RequestHead | ResponseHead, lines: list[bytes]) -> bool:
    """Fill headers, fields and repeated from the lines after the first; False if one is bad."""
    headers: list[Header] = []
    fields: dict[bytes, bytes] = {}
    known = known_lines.get
    for line in lines[1:-2]:
        field = known(line) or read_field(line)
        if field is None:
            return False
        lower, value, pair = field
        headers.append(pair)
        fields[lower] = value
    head.headers = headers
    head.fields = fields
    head.repeated = _find_repeated(head) if len(fields) != len(headers) else None
    return lines[-1] == lines[-2] == b""


def _find_repeated(head: RequestHead | ResponseHead) -> dict[bytes, list[bytes]]:
    values: dict[bytes, list[bytes]] = {}
    for name, value in head.headers:
        values.setdefault(name.lower(), []).append(value)
    head.fields = {name: each[0] for name, each in values.items()}
    return {name: each for name, each in values.items() if len(each) > 1}


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
        options = _options(head, b"connection")
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
    problem = _content_problem(head, length, coding)
    if problem is not None:
        status = 501 if problem[0] == "transfer-encoding-unknown" else 400
        return Refused(status, *problem)
    if coding is not None:
        head.framing = _CHUNKED
    elif length is not None:
        head.framing = _BY_LENGTH
        head.content_length = int(length)
    return None


_OTHER_CODINGS = frozenset((b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"br", b"zstd"))


def _content_problem(
    head: RequestHead | ResponseHead, length: bytes | None, coding: bytes | None
) -> tuple[str, str] | None:
    repeated = head.repeated or {}
    if coding is not None:
        if length is not None:
            return "length-and-coding", "Content-Length together with Transfer-Encoding (RFC 9112 §6.1)"
        if b"transfer-encoding" in repeated:
            return "transfer-encoding-repeated", "more than one Transfer-Encoding field"
        if head.minor == 0:
            return "transfer-encoding-version", "HTTP/1.0 has no Transfer-Encoding (RFC 9112 §6.1)"
        if coding.lower() == b"chunked":
            return None
        codings = {part.strip(b" \t").lower() for part in coding.split(b",")}
        if codings <= _OTHER_CODINGS | {b"chunked"}:
            return "transfer-encoding-unknown", "the only transfer coding is chunked"
        return "transfer-encoding", "Transfer-Encoding is not exactly chunked"
    if b"content-length" in repeated:
        return "content-length-repeated", "more than one Content-Length field (RFC 9110 §8.6)"
    if length is not None and _LENGTH.fullmatch(length) is None:
        return "content-length", "Content-Length is not a number of 1 to 18 digits"
    return None


def _options(head: RequestHead | ResponseHead, name: bytes) -> list[bytes]:
    """The members of a list field, lower case (RFC 9110 §5.6.1)."""
    return [part.strip(b" \t").lower() for value in head.get_all(name) for part in value.split(b",")]


def _wanted_protocol(head: RequestHead) -> bytes | None:
    """One protocol and not h2c: a tunnel through which a client could speak past policy (h2csmuggler)."""
    protocols = _options(head, b"upgrade")
    if len(protocols) != 1 or protocols[0] in (b"", b"h2c") or protocols[0].startswith(b"http/"):
        return None
    return protocols[0]


def parse_response_head(
    raw: bytes, request_method: str, limits: Limits = DEFAULT_LIMITS
) -> ResponseHead | Refused:
    """Read a complete response head; the method of its request decides whether content follows."""
    if codec is not None and request_method not in _WITHOUT_CONTENT:
        head = codec.response(raw, limits.head_bytes, limits.fields)
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
    if not _take_fields(head, lines):
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
        problem = _content_problem(head, length, coding)
        if problem is not None:
            return Refused(502, *problem)
    connection = fields.get(b"connection")
    if connection is None:
        head.keep_alive = head.minor == 1
    else:
        options = _options(head, b"connection")
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
