"""Which texts a dimension of a request can have at all: what the sidecars' parsers let through.

Only texts of the domain become witnesses, so that a witness can be sent. Paths are those that
`engine.normalise` leaves as they are; an authority is host, trailing dots and port, cut where `host_of` cuts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshpy.analysis.language import (
    EMPTY,
    MARK,
    Chars,
    Either,
    Language,
    chars,
    literal,
    opt,
    plus,
    star,
    then,
)
from meshpy.engine.request import host_of

__all__ = ["AUTHORITY", "CLAIM", "HEADER", "IDENTITY", "METHOD", "PATH", "QUERY", "Domain", "principals"]

_LOWER = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Domain:
    """The texts of one dimension.

    Args:
        parts: of a structured text, between marks; without them `language` says it all.
        liked: characters to show first in a witness.
        samples: texts that people know; they become witnesses where they fit.
    """

    name: str
    language: Language
    characters: int
    liked: str = _LOWER + "0123456789/-"
    samples: tuple[str, ...] = ()
    parts: tuple[Language, ...] = ()
    split: Callable[[str], tuple[str, ...]] | None = None
    shows_marks: bool = False

    @property
    def marks(self) -> bool:
        return bool(self.parts)

    def encode(self, text: str) -> str:
        """The text with marks between its parts."""
        return text if self.split is None else chr(MARK).join(self.split(text))


def _set(language: Chars) -> int:
    return language.mask


_UNRESERVED = "A-Za-z0-9._~-"
_RAW = chars("A-Za-z0-9._~!$&'()*+,;=:@[]-")
_RAW_NOT_DOT = Chars(_set(_RAW) & ~(1 << ord(".")))
_KEPT_OCTETS = (
    frozenset(range(1, 256))
    - {ord("/"), ord("\\")}
    - {code for code in range(256) if _set(chars(_UNRESERVED)) >> code & 1}
)


def _escape() -> Language:
    """`%XX` of an octet that normalisation leaves escaped."""
    ends: dict[str, str] = {}
    for octet in sorted(_KEPT_OCTETS):
        text = f"{octet:02X}"
        ends[text[0]] = ends.get(text[0], "") + text[1]
    firsts: dict[str, str] = {}
    for high, lows in ends.items():
        firsts[lows] = firsts.get(lows, "") + high
    return Either(tuple(then("%", chars(highs), chars(lows)) for lows, highs in firsts.items()))


def _path() -> Language:
    escape = _escape()
    unit, not_dot = Either((_RAW, escape)), Either((_RAW_NOT_DOT, escape))
    segment = Either(
        (
            then(not_dot, star(unit)),
            then(".", not_dot, star(unit)),
            then("..", plus(unit)),
        )
    )
    return then("/", opt(then(segment, star(then("/", segment)), opt(literal("/")))))


PATH = Domain(
    "path",
    _path(),
    _set(chars("!$-;=@-Z[]_a-z~")) & ~(1 << ord("<")),
    _LOWER + "0123456789-_/.ABCDEF",
    samples=("/", "/x", "/x/", "/x/y"),
)

_TOKEN = chars("!#$%&'*+.^_`|~0-9A-Za-z-")
METHOD = Domain(
    "method",
    plus(_TOKEN),
    _set(_TOKEN),
    _LOWER.upper() + "-_" + _LOWER,
    samples=("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"),
)

_FIELD = Chars(((1 << 256) - 1) & ~((1 << 32) - 1) & ~(1 << 127) | 1 << 9)
_FIELD_INK = Chars(_FIELD.mask & ~(1 << 32) & ~(1 << 9))
HEADER = Domain(
    "header",
    opt(then(_FIELD_INK, opt(then(star(_FIELD), _FIELD_INK)))),
    _FIELD.mask,
    samples=("x", "other", ""),
)
"""One value of a header (RFC 9110 §5.5): no blank at either end; it may be empty."""

_QUERY_VALUE = Chars(_set(chars("!$-~")) & ~(1 << ord("&")))
QUERY = Domain("query", star(_QUERY_VALUE), _QUERY_VALUE.mask, samples=("x", "1", ""))
"""The value of one query parameter, as received."""

_HOST = chars("a-z0-9._~!$&'()*+,;=%-")
_HOST_END = Chars(_HOST.mask & ~(1 << ord(".")))
_PORT = opt(then(":", star(chars("0-9"))))


def _split_authority(text: str) -> tuple[str, ...]:
    host = host_of(text)
    return host, text[len(host) :]


AUTHORITY = Domain(
    "host",
    EMPTY,
    _set(chars("a-z0-9._~!$&'()*+,;=%:[]-")),
    _LOWER + "0123456789.-",
    parts=(
        Either((EMPTY, then(star(_HOST), _HOST_END), then("[", star(chars("0-9a-f:.")), "]"))),
        then(star(literal(".")), _PORT),
    ),
    split=_split_authority,
    samples=("x", "x.example"),
)
"""Lower case, as `Request.authority` is."""

_CLAIM = chars("!-~")
CLAIM = Domain("claim", plus(_CLAIM), _CLAIM.mask, samples=("x", "other"))
"""One word of a claim; empty ones count for nothing, and several words are several values."""

IDENTITY = Domain(
    "identity",
    EMPTY,
    _CLAIM.mask,
    samples=(),
    parts=(plus(_CLAIM), literal("/"), plus(_CLAIM)),
    split=lambda text: (text.partition("\n")[0], "/", text.partition("\n")[2]),
    shows_marks=True,
)
"""Issuer and subject of a JWT, whose principal is both with a slash between; written with a line break."""


_NAME = plus(chars("a-z0-9._A-Z-"))


def _split_principal(text: str) -> tuple[str, ...]:
    parts = text.split("/", 4)
    if len(parts) != 5:
        return (text, "", "")
    return f"{parts[0]}/ns/", parts[2], f"/sa/{parts[4]}"


def principals(trust_domain: str) -> Domain:
    """SPIFFE ids of the mesh without `spiffe://`; their second part is the namespace."""
    return Domain(
        "principal",
        EMPTY,
        _set(chars("a-z0-9._A-Z/-")) | _set(chars(trust_domain.replace("-", ""))),
        parts=(literal(f"{trust_domain}/ns/"), _NAME, then("/sa/", _NAME)),
        split=_split_principal,
    )
