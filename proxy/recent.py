"""The last exchanges of a sidecar, for whoever asks later: the rest of a trace, the newest lines of a log.

Hot file: one tuple an exchange, of what is there anyway; it is made into a Seen when somebody asks. Texts of
strangers are kept cut, whole heads are not kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from proxy.decide.grpc import Call
from proxy.telemetry import Edge

if TYPE_CHECKING:
    from proxy.net.host import Host
    from proxy.plan import Plan, Reply

__all__ = ["KEPT", "MAX_TEXT", "Attempt", "Recent", "Seen"]

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


class Recent:
    """Args:
    kept: how many exchanges; 0 keeps none.
    """

    __slots__ = ("_kept", "add")

    def __init__(self, kept: int = KEPT) -> None:
        self._kept: deque[tuple[object, ...]] = deque(maxlen=kept)
        self.add = self._kept.append
        """Keep the fields of a Seen, in order."""

    def __len__(self) -> int:
        return len(self._kept)

    def forget(self, now: float) -> None:
        """Drop what is old: an idle sidecar holds no routes and hosts of a configuration that is gone."""
        kept = self._kept
        while kept and kept[0][3] < now - KEPT_S:  # type: ignore[operator]
            kept.popleft()

    def newest(self) -> Iterator[Seen]:
        """The newest first, as of now; may be read in a thread."""
        return (Seen._make(each) for each in reversed(tuple(self._kept)))

    def of_traces(self, wanted: Collection[bytes]) -> list[Seen]:
        """Those of these traces whose spans were not told yet.

        Args:
            wanted: ids, 32 hex digits each.
        """
        found = []
        for index, each in enumerate(self._kept):
            if each[0] and not each[2] and each[0][3:35] in wanted:  # type: ignore[index]
                seen = Seen._make(each)
                self._kept[index] = tuple(seen._replace(is_told=True))
                found.append(seen)
        return found
