"""The last exchanges of a sidecar, for whoever asks later: the rest of a trace, the newest lines of a log.

Hot file: an exchange is packed into a ring, and made into a Seen when somebody asks. Kept as objects, each of
its ten took fresh memory, and had left the processor's caches when it was freed: 2 of a request's 35 µs. What
most exchanges of a connection share is one object. Texts of strangers are kept cut, whole heads are not kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from struct import Struct, calcsize
from typing import TYPE_CHECKING, Final, NamedTuple

from meshpy.model.tap import verdict_of
from proxy.decide.grpc import Call
from proxy.http.native import codec
from proxy.telemetry import Edge

if TYPE_CHECKING:
    from proxy.exchange import Exchange
    from proxy.net.host import Host
    from proxy.plan import Plan, Reply

__all__ = [
    "KEPT",
    "MAX_TEXT",
    "Alike",
    "Attempt",
    "Odd",
    "Recent",
    "Record",
    "Seen",
    "pack_in_python",
    "seen_of",
]

KEPT: Final = 4096
KEPT_S: Final = 30.0
MAX_TEXT: Final = 512
_PATH_BYTES: Final = 84
_ELSEWHERE: Final = 255
"""In place of the length of a path for which a slot has no room."""
_NUMBERS: Final = "=?BBBddqq"
"""If it is told, the lengths of trace, parent and path; when it ended, began; bytes sent, received."""
_LAYOUT: Final = Struct(f"{_NUMBERS}55s16s{_PATH_BYTES}s")
"""As text.c knows it too."""
_SLOT_BYTES: Final = _LAYOUT.size
_ENDED_AT: Final = 4
_TRACE_ID: Final = calcsize(_NUMBERS) + len("00-")
_pack_into: Final = _LAYOUT.pack_into
_pack: Final = codec.pack if codec is not None else None
_unpack: Final = _LAYOUT.unpack_from


class Attempt(NamedTuple):
    """A try that was given up.

    Args:
        started_at, ended_at: of the monotonic clock.
        status: 0 when no response came.
    """

    span_id: str
    started_at: float
    ended_at: float
    status: int
    reason: str
    host: str


class Seen(NamedTuple):
    """An exchange that is over.

    Args:
        trace: its traceparent; empty where it was not forwarded nor answered by the mesh.
        is_told: whether its spans were kept already.
        ended_at, started_at, upstream_started_at: of the monotonic clock.
        audit: who would have it noticed, `policy rule`.
    """

    trace: bytes
    parent: bytes
    is_told: bool
    ended_at: float
    started_at: float
    upstream_started_at: float
    edge: Edge
    method: str
    authority: str
    path: str
    minor: int
    status: int
    flags: str
    attempts: int
    bytes_sent: int
    bytes_received: int
    plan: Plan | None
    host: Host | None
    reply: Reply | None
    call: Call | None
    attempt_log: tuple[Attempt, ...] | None
    audit: str = ""

    @property
    def is_client(self) -> bool:
        return self.edge.key.direction == "outbound"

    @property
    def took_s(self) -> float:
        return self.ended_at - self.started_at

    @property
    def is_denied(self) -> bool:
        return self.reply is not None and bool(self.reply.stage)

    @property
    def verdict(self) -> str:
        """One of VERDICTS (meshpy.model.tap)."""
        is_failed = self.status >= 500 or not self.status
        return verdict_of(is_denied=self.is_denied, is_failed=is_failed, is_audited=bool(self.audit))

    @property
    def policy(self) -> str:
        """Who decided, or who would have it noticed."""
        return (self.reply.policy if self.reply is not None else "") or self.audit

    @property
    def route(self) -> str:
        name = self.plan.route_name if self.plan is not None else ""
        return name or (self.reply.route_name if self.reply is not None else "")


class Alike:
    """What an exchange has in common with others of its connection.

    Args:
        line: what lines of the log share, once there was one: from the direction to the path, from the
            protocol to what was received, from the authority on.
    """

    __slots__ = ("authority", "edge", "flags", "host", "line", "method", "minor", "plan", "status")

    def __init__(
        self,
        edge: Edge,
        method: str,
        authority: str,
        minor: int,
        status: int,
        flags: str,
        plan: Plan | None,
        host: Host | None,
    ) -> None:
        self.edge = edge
        self.method = method
        self.authority = authority
        self.minor = minor
        self.status = status
        self.flags = flags
        self.plan = plan
        self.host = host
        self.line: tuple[str, str, str] | None = None

    @classmethod
    def of(cls, exchange: Exchange, edge: Edge) -> Alike:
        head = exchange.head
        authority = head.authority.text[:MAX_TEXT]
        return cls(
            edge,
            head.method,
            authority,
            head.minor,
            exchange.status,
            exchange.flags,
            exchange.plan,
            exchange.host,
        )

    def is_of(self, exchange: Exchange, edge: Edge) -> bool:
        head = exchange.head
        return (
            self.edge is edge
            and self.plan is exchange.plan
            and self.host is exchange.host
            and self.status == exchange.status
            and self.minor == head.minor
            and self.method == head.method
            and self.flags == exchange.flags
            and self.authority == head.authority.text
        )


Odd = tuple[int, float, "Reply | None", Call | None, tuple[Attempt, ...] | None, str]
"""What few exchanges have: tries other than one, when the last began, an answer of the mesh, a call of gRPC,
the tries that were given up, who would have it noticed."""

Record = tuple[Alike, bytes, bytes, bool, float, float, str, int, int, Odd | None]
"""What is alike, trace, parent, if it is told; when it ended, began; path, bytes sent, received, the odd."""

_EVEN: Odd = (1, 0.0, None, None, None, "")


def seen_of(record: Record) -> Seen:
    """The whole of it."""
    alike, trace, parent, is_told, ended_at, started_at, path, sent, received, odd = record
    attempts, upstream_started_at, reply, call, attempt_log, audit = odd or _EVEN
    return Seen(
        trace, parent, is_told, ended_at, started_at, upstream_started_at, alike.edge, alike.method,
        alike.authority, path, alike.minor, alike.status, alike.flags, attempts, sent, received, alike.plan,
        alike.host, reply, call, attempt_log, audit,
    )  # fmt: skip


def pack_in_python(
    ring: bytearray,
    at: int,
    is_told: bool,
    ended_at: float,
    started_at: float,
    sent: int,
    received: int,
    trace: bytes,
    parent: bytes,
    path: str,
) -> bool:
    """Pack an exchange into a slot; False when the path has no room there."""
    is_here = len(path) <= _PATH_BYTES and path.isascii()
    text = path.encode("ascii") if is_here else b""
    _pack_into(
        ring, at, is_told, len(trace), len(parent), len(text) if is_here else _ELSEWHERE, ended_at,
        started_at, sent, received, trace, parent, text,
    )  # fmt: skip
    return is_here


class Recent:
    """A ring: each exchange is packed where an old one was, so that nothing of its own is kept and freed.

    Args:
        kept: how many exchanges; 0 keeps none.
    """

    __slots__ = ("_added", "_alike", "_forgotten", "_kept", "_odd", "_paths", "_ring", "_slots")

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._slots = slots = kept + 1
        """One more, for the one that is being written while a thread reads."""
        self._ring = bytearray(slots * _SLOT_BYTES)
        self._alike: list[Alike | None] = [None] * slots
        self._odd: list[Odd | None] = [None] * slots
        self._paths: list[str] = [""] * slots
        """Those for which a slot has no room; of others what was there before."""
        self._added = 0
        """How many there ever were; number n is in slot n % slots."""
        self._forgotten = 0
        """How many of them were too old."""

    def __len__(self) -> int:
        return self._added - self._first()

    def _first(self) -> int:
        """The number of the oldest."""
        return max(self._forgotten, self._added - self._kept)

    def add(
        self,
        alike: Alike,
        trace: bytes,
        parent: bytes,
        is_told: bool,
        ended_at: float,
        started_at: float,
        path: str,
        sent: int,
        received: int,
        odd: Odd | None,
    ) -> None:
        """Keep an exchange: the values of a Record, one by one since a tuple is made anew for each."""
        if not self._kept:
            return
        slot = self._added % self._slots
        self._alike[slot] = alike
        self._odd[slot] = odd
        at, ring = slot * _SLOT_BYTES, self._ring
        if _pack is not None:
            is_here = _pack(ring, at, is_told, ended_at, started_at, sent, received, trace, parent, path)
        else:
            is_here = pack_in_python(
                ring, at, is_told, ended_at, started_at, sent, received, trace, parent, path
            )
        if not is_here:
            self._paths[slot] = path[:MAX_TEXT]
        self._added += 1

    def _read(self, number: int) -> Record | None:
        """None when it is not there any more. May be called in a thread, while exchanges are added."""
        slot = number % self._slots
        alike, odd, path = self._alike[slot], self._odd[slot], self._paths[slot]
        packed = _unpack(self._ring, slot * _SLOT_BYTES)
        # Looked at last: it may have been written anew meanwhile.
        if alike is None or number <= self._added - self._slots:
            return None
        is_told, trace_bytes, parent_bytes, path_bytes, ended_at, started_at, sent, received, *texts = packed
        trace, parent, text = texts
        if path_bytes != _ELSEWHERE:
            path = text[:path_bytes].decode()
        record: Record = (
            alike, trace[:trace_bytes], parent[:parent_bytes], is_told, ended_at, started_at, path, sent,
            received, odd,
        )  # fmt: skip
        return record

    def forget(self, now: float) -> None:
        """Drop what is old: an idle sidecar holds no routes and hosts of a configuration that is gone."""
        number = self._first()
        while number < self._added:
            slot = number % self._slots
            if _unpack(self._ring, slot * _SLOT_BYTES)[_ENDED_AT] >= now - KEPT_S:
                break
            self._alike[slot] = self._odd[slot] = None
            self._paths[slot] = ""
            number += 1
        self._forgotten = number

    def newest(self) -> Iterator[Seen]:
        """The newest first, as of now; may be read in a thread."""
        for number in range(self._added - 1, self._first() - 1, -1):
            record = self._read(number)
            if record is None:
                return
            yield seen_of(record)

    def of_traces(self, wanted: Collection[bytes]) -> list[Seen]:
        """Those of these traces whose spans were not told yet.

        Args:
            wanted: ids, 32 hex digits each.
        """
        found = []
        for number in range(self._first(), self._added):
            start = number % self._slots * _SLOT_BYTES
            id_at = start + _TRACE_ID
            if self._ring[start] or bytes(self._ring[id_at : id_at + 32]) not in wanted:
                continue
            record = self._read(number)
            if record is not None:
                self._ring[start] = 1
                found.append(seen_of(record))
        return found
