"""Fields that the mesh itself writes: request id, trace context, forwarded-for, client certificate, header
rules.

Hot file: it runs for every request. Names are looked up in the dictionary that the parser made; header lists
are never copied here, only what to leave out and what to add is told to the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from meshpy.model.route import HeaderOps
from proxy.http.events import Header, Headers
from proxy.http.head import RequestHead
from proxy.http.hygiene import is_spoofable

__all__ = ["FoldedOps", "Ids", "client_certificate", "fold", "forwarded_for", "requested_id", "spoofed_names"]

_ID_BYTES: Final = 4096
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class Ids:
    """Random identifiers, cut from a stock of random bytes.

    Args:
        random_bytes: an unpredictable source: ids of two sidecars must never meet.
        sampling_pct: of the traces begun here so many percent are marked sampled.
    """

    __slots__ = ("_position", "_random_bytes", "_sampled_below", "_stock")

    def __init__(self, random_bytes: Callable[[int], bytes], sampling_pct: float = 1.0) -> None:
        self._random_bytes = random_bytes
        self.sample(sampling_pct)
        self._stock = ""
        self._position = 0

    def sample(self, pct: float) -> None:
        """Change the share of sampled traces, from 0 to 100 percent."""
        share = round(pct / 100 * 2**32)
        self._sampled_below = "g" if share >= 2**32 else f"{share:08x}"  # above every digit

    def hex(self, digits: int) -> str:
        """Hex digits, never used before."""
        start = self._position
        end = start + digits
        if end > len(self._stock):
            self._stock = self._random_bytes(_ID_BYTES).hex()
            start, end = 0, digits
        self._position = end
        return self._stock[start:end]

    def request_id(self) -> bytes:
        """A random UUID (RFC 9562 §5.4)."""
        text = self.hex(32)
        return (
            f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}".encode()
        )

    def traceparent(self) -> bytes:
        """A new trace; whether it is sampled is drawn from the digits of its id."""
        text = self.hex(48)
        flags = "01" if text[24:32] < self._sampled_below else "00"
        return f"00-{text[:32]}-{text[32:]}-{flags}".encode()


def requested_id(head: RequestHead, ids: Ids, extra: Headers) -> bytes:
    """The request's id; one that has none gets one."""
    request_id = head.fields.get(b"x-request-id")
    if not request_id:
        request_id = ids.request_id()
        extra.append((b"x-request-id", request_id))
    return request_id


_FROM_OUTSIDE: Final = frozenset((b"x-forwarded-for", b"x-real-ip"))

_ORDINARY_LIMIT: Final = 2048
_ORDINARY_BYTES: Final = 64
_ordinary: Final[set[bytes]] = set()
"""Names already looked at that no rule of this module is about: one set operation passes most heads."""


def _special_names(fields: Mapping[bytes, bytes]) -> Sequence[bytes]:
    """The received names that a rule of this module may be about."""
    if _ordinary.issuperset(fields):
        return ()
    found = []
    for name in fields:
        if name in _ordinary:
            continue
        if is_spoofable(name) or name.replace(b"_", b"-") in _FROM_OUTSIDE:
            found.append(name)
        elif len(name) <= _ORDINARY_BYTES:
            if len(_ordinary) >= _ORDINARY_LIMIT:
                _ordinary.clear()
            _ordinary.add(name)
    return found


def spoofed_names(head: RequestHead) -> list[bytes]:
    """Received names that only the mesh may set, their twins with `_` included."""
    special = _special_names(head.fields)
    return [name for name in special if is_spoofable(name)] if special else []


def forwarded_for(
    head: RequestHead, address: str, extra: Headers, *, is_secured: bool = False
) -> list[bytes]:
    """Note where a request from outside the mesh came from; returns the names to drop.

    `x-forwarded-for` is appended to (its last entry is ours to vouch for); `x-real-ip` has one value, so a
    received one is replaced; twins spelt with `_` are dropped, since some servers read them as the same name.

    Args:
        is_secured: its TLS ended here, which makes the scheme ours to vouch for.
    """
    own = address.encode("ascii")
    fields = head.fields
    dropped: list[bytes] = []
    if is_secured:
        extra.append((b"x-forwarded-proto", b"https"))
        dropped = [name for name in (b"x-forwarded-proto", b"x_forwarded_proto") if name in fields]
    elif b"x-forwarded-proto" not in fields:
        extra.append((b"x-forwarded-proto", b"http"))
    special = _special_names(fields)
    if not special:
        extra.append((b"x-forwarded-for", own))
        return dropped
    before = head.get_all(b"x-forwarded-for")
    extra.append((b"x-forwarded-for", b", ".join([*before, own])))
    if b"x-real-ip" in fields:
        extra.append((b"x-real-ip", own))
    return dropped + [name for name in special if name.replace(b"_", b"-") in _FROM_OUTSIDE]


def client_certificate(own_id: str, peer_id: str, digest: str) -> Header:
    """`x-forwarded-client-cert` in Envoy's form, for a verified peer (SANITIZE_SET)."""
    return b"x-forwarded-client-cert", f'By={own_id};Hash={digest};Subject="";URI={peer_id}'.encode("ascii")


class FoldedOps:
    """Header rules of a route and its destination as one: names to leave out, fields to add.

    Args:
        host: a new Host, when a rule sets `host` or `:authority`.
    """

    __slots__ = ("drop", "extra", "host")

    def __init__(self, drop: frozenset[bytes], extra: tuple[Header, ...], host: bytes | None) -> None:
        self.drop = drop
        self.extra = extra
        self.host = host

    def __bool__(self) -> bool:
        return bool(self.drop or self.extra or self.host)


def fold(rules: Iterable[HeaderOps]) -> FoldedOps:
    """Join rules in the order in which they apply; each removes, then sets, then adds."""
    drop: set[bytes] = set()
    extra: list[Header] = []
    host: bytes | None = None
    for rule in rules:
        for name in rule.remove:
            extra = _without(extra, _lower(name))
            drop.add(_lower(name))
        for name, value in rule.set:
            if _lower(name) in (b"host", b":authority"):
                host = value.encode("latin-1")
                continue
            extra = _without(extra, _lower(name))
            drop.add(_lower(name))
            extra.append((name.encode("latin-1"), value.encode("latin-1")))
        extra += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in rule.add]
    return FoldedOps(frozenset(drop), tuple(extra), host)


def _lower(name: str) -> bytes:
    return name.lower().encode("latin-1")


def _without(extra: Sequence[Header], name: bytes) -> list[Header]:
    return [header for header in extra if header[0].lower() != name]
