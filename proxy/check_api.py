"""`envoy.service.auth.v3.Authorization/Check` in bytes: the few messages of it, without a protobuf library.

Fields by their numbers in envoy/service/auth/v3/attribute_context.proto and external_auth.proto. What an
answer has beyond them is skipped, as protobuf demands of unknown fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from meshpy.protobuf import BadMessageError as BadMessage
from meshpy.protobuf import read as _fields

__all__ = [
    "BadMessage",
    "CheckResponse",
    "HeaderChange",
    "HttpCheck",
    "encode_check",
    "frame",
    "read_check",
    "unframe",
]

_VARINT, _BYTES = 0, 2


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, data: bytes | str) -> bytes:
    """A string, bytes or message; nothing when it is empty, as in proto3."""
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
    return _varint(number << 3 | _BYTES) + _varint(len(raw)) + raw if raw else b""


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value) if value else b""


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """One request as it is asked about.

    Args:
        headers: lower-case name → its values, joined by commas.
        size: of the content; -1 when it is not known.
        body: that goes along.
        source, destination: (address, port, principal); an empty address is left out.
    """

    id: str
    method: str
    path: str
    host: str
    scheme: str
    protocol: str
    headers: tuple[tuple[str, str], ...]
    size: int
    body: bytes
    body_as_bytes: bool
    source: tuple[str, int, str]
    destination: tuple[str, int, str]


def _peer(peer: tuple[str, int, str]) -> bytes:
    address, port, principal = peer
    socket = _field(2, address) + _number(3, port)
    return (_field(1, _field(1, socket)) if address else b"") + _field(4, principal)


def encode_check(check: HttpCheck) -> bytes:
    """A CheckRequest."""
    http = b"".join(
        (
            _field(1, check.id),
            _field(2, check.method),
            *(_field(3, _field(1, name) + _field(2, value)) for name, value in check.headers),
            _field(4, check.path),
            _field(5, check.host),
            _field(6, check.scheme),
            # int64: a negative one is its two's complement, in ten bytes.
            _number(9, check.size & 0xFFFFFFFFFFFFFFFF),
            _field(10, check.protocol),
            _field(12 if check.body_as_bytes else 11, _body(check)),
        )
    )
    peers = _field(1, _peer(check.source)) + _field(2, _peer(check.destination))
    return _field(1, peers + _field(4, _field(2, http)))


def _body(check: HttpCheck) -> bytes:
    """A string of protobuf is UTF-8: bytes that are none are replaced (`packAsBytes` keeps them)."""
    if check.body_as_bytes:
        return check.body
    return check.body.decode("utf-8", "replace").encode()


def frame(message: bytes) -> bytes:
    """A message of gRPC, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def unframe(data: bytes) -> bytes:
    """Raises:
    BadMessage: it is not one message, or a compressed one.
    """
    if len(data) < 5 or data[0] or int.from_bytes(data[1:5], "big") != len(data) - 5:
        raise BadMessage("the answer is not one plain message")
    return data[5:]


class HeaderChange(NamedTuple):
    """One HeaderValueOption; `appends` False replaces."""

    name: bytes
    value: bytes
    appends: bool = False


@dataclass(slots=True)
class CheckResponse:
    """Args:
    code: of google.rpc.Status: 0 allows.
    status: of the answer to the client; 0 when it is not said.
    """

    code: int = 0
    status: int = 0
    body: bytes = b""
    denied_headers: tuple[HeaderChange, ...] = ()
    headers: tuple[HeaderChange, ...] = ()
    removed: tuple[bytes, ...] = ()
    response_headers: tuple[HeaderChange, ...] = ()


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise BadMessage("a number stands where a message belongs")
    return value


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise BadMessage("a message stands where a number belongs")
    return value


def read_check(data: bytes) -> CheckResponse:
    """A CheckResponse.

    Raises:
        BadMessage: it is none.
    """
    found = CheckResponse()
    for number, value in _fields(data):
        if number == 1:
            codes = [_int(inner) for key, inner in _fields(_message(value)) if key == 1]
            found.code = codes[-1] if codes else 0
        elif number == 2:
            _read_denied(_message(value), found)
        elif number == 3:
            _read_ok(_message(value), found)
    return found


def _read_denied(data: bytes, found: CheckResponse) -> None:
    for number, value in _fields(data):
        if number == 1:
            codes = [_int(inner) for key, inner in _fields(_message(value)) if key == 1]
            found.status = codes[-1] if codes else 0
        elif number == 2:
            found.denied_headers = (*found.denied_headers, _option(_message(value)))
        elif number == 3:
            found.body = _message(value)


def _read_ok(data: bytes, found: CheckResponse) -> None:
    for number, value in _fields(data):
        if number == 2:
            found.headers = (*found.headers, _option(_message(value)))
        elif number == 5:
            found.removed = (*found.removed, _message(value).lower())
        elif number == 6:
            found.response_headers = (*found.response_headers, _option(_message(value)))


def _option(data: bytes) -> HeaderChange:
    """A header to set; `append` (deprecated) and the append actions 0 and 1 that are said add to it."""
    name = value = b""
    appends = False
    for number, found in _fields(data):
        if number == 1:
            parts = dict(_fields(_message(found)))
            name = _message(parts.get(1, b"")).lower()
            value = _message(parts.get(3, b"")) or _message(parts.get(2, b""))
        elif number == 2:
            appends = any(key == 1 and inner == 1 for key, inner in _fields(_message(found)))
    if not name or not all(0x21 <= byte <= 0x7E and byte not in b'()<>@,;:\\"/[]?={}' for byte in name):
        raise BadMessage("a header has no name")
    if any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in value):
        raise BadMessage("a header's value has a control character")
    return HeaderChange(name, value.strip(b" \t"), appends)
