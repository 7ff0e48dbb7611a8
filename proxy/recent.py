"""The last exchanges of a sidecar, for whoever asks later: the rest of a trace, the newest lines of a log.

Hot file: one small tuple an exchange, of what is there anyway; it is made into a Seen when somebody asks.
What most exchanges of a connection share is one object: what falls out of the memory has left the processor's
caches, and each object of its own is fetched once more to be freed. Texts of strangers are kept cut, whole
heads are not kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from proxy.decide.grpc import Call
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
    "seen_of",
]

KEPT = 4096
KEPT_S = 30.0
MAX_TEXT = 512


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
        if self.is_denied:
            return "DENIED"
        if self.status >= 500 or not self.status:
            return "ERROR"
        return "AUDIT" if self.audit else "FORWARDED"

    @property
    def policy(self) -> str:
        """Who decided, or who would have it noticed."""
        return (self.reply.policy if self.reply is not None else "") or self.audit

    @property
    def route(self) -> str:
        name = self.plan.route_name if self.plan is not None else ""
        return name or (self.reply.route_name if self.reply is not None else "")


class Alike:
    """What an exchange has in common with others of its connection."""

    __slots__ = ("authority", "edge", "flags", "host", "method", "minor", "plan", "status")

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


class Recent:
    """Args:
    kept: how many exchanges; 0 keeps none.
    """

    __slots__ = ("_kept", "add")

    def __init__(self, kept: int = KEPT) -> None:
        self._kept: deque[Record] = deque(maxlen=kept)
        self.add = self._kept.append
        """Keep an exchange."""

    def __len__(self) -> int:
        return len(self._kept)

    def forget(self, now: float) -> None:
        """Drop what is old: an idle sidecar holds no routes and hosts of a configuration that is gone."""
        kept = self._kept
        while kept and kept[0][4] < now - KEPT_S:
            kept.popleft()

    def newest(self) -> Iterator[Seen]:
        """The newest first, as of now; may be read in a thread."""
        # No generator expression: compiled, it would make a Seen of each before the first is looked at.
        for each in reversed(tuple(self._kept)):
            yield seen_of(each)

    def of_traces(self, wanted: Collection[bytes]) -> list[Seen]:
        """Those of these traces whose spans were not told yet.

        Args:
            wanted: ids, 32 hex digits each.
        """
        found = []
        for index, each in enumerate(self._kept):
            trace, is_told = each[1], each[3]
            if trace and not is_told and trace[3:35] in wanted:
                self._kept[index] = (*each[:3], True, *each[4:])
                found.append(seen_of(each))
        return found
