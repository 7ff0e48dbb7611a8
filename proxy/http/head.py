"""Heads as values: a request or status line with its fields, read and judged.

Slots and no frozen dataclass: a head is made for each message (PERFORMANCE). `request_head` and
`response_head` read them from HTTP/1.1, `h2heads` from HTTP/2.
"""

from __future__ import annotations

from proxy.http.authority import Authority, known_authorities, parse_authority
from proxy.http.events import Framing, Headers
from proxy.http.hygiene import HOP_BY_HOP
from proxy.http.native import codec

__all__ = ["RequestHead", "ResponseHead"]


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
        RequestHead, ResponseHead, Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.UNTIL_CLOSE,
        HOP_BY_HOP, known_authorities, parse_authority,
    )  # fmt: skip
