"""What the control plane knows of one sidecar's stream: a state machine, pure.

    hello ──► idle ──send──► in flight ──ack──► idle (held = newest: SYNCED)
                                └──nack──► idle (REJECTED until there is a newer version)

Invariants: at most one version is unanswered, so a slow sidecar gets the newest next and none between; a
version that was rejected is not sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from control_plane.rollout import NOTHING, Figures
from control_plane.snapshots import Printed
from meshpy.model.names import ServiceName

__all__ = ["STALE_AFTER_S", "Stream", "SyncState"]

STALE_AFTER_S = 5.0
MAX_REASON = 500


class SyncState(StrEnum):
    """Where a sidecar stands towards the newest snapshot of its service."""

    SYNCED = "SYNCED"
    PENDING = "PENDING"
    STALE = "STALE"
    REJECTED = "REJECTED"
    NO_SNAPSHOT = "NO_SNAPSHOT"
    DISCONNECTED = "DISCONNECTED"


@dataclass(slots=True, eq=False)
class Stream:
    """One stream.

    Args:
        held: the version the sidecar said it holds.
        revision: the policy revision of that version; 0 when it is not known.
        kept: the revision that it said it holds, where ours is older because the store lost it.
        not_after: when the certificate it connected with ends, and the stream with it.
        not_before, serial: of that certificate.
        held_at_s: when it began to decide by what it holds, as far as is known here.
        traffic: what its sidecar reported since the stream began.
        is_canary: whether it gets the candidate of a rollout.
        ends: why it has to end now; empty while it goes on.
        tapped: the generation of taps that its sidecar knows.
        asked: the number of the last question to all sidecars that it was sent.
        issuer: the key id of who signed the certificate it connected with, hex.
        told_bundle, believes: the set of roots that it was sent, that it acknowledged.
        asked_renewal: the issuer that it was asked to have a certificate of.
        has_app: whether it found its app; None until it says so.
        metrics_port: where its sidecar serves Prometheus; 0: nowhere.
        metrics_host: the loopback address on which it does so, of a sidecar on this machine.
    """

    service: ServiceName
    address: str
    not_after: datetime
    task: str = ""
    node: str = ""
    meshpy: str = ""
    held: str = ""
    revision: int = 0
    kept: int = 0
    is_greeted: bool = False
    is_connected: bool = True
    changed_at_s: float = 0.0
    in_flight: Printed | None = None
    rejected: str = ""
    reason: str = ""
    traffic: Figures = NOTHING
    is_canary: bool = False
    ends: str = ""
    tapped: int = 0
    asked: int = 0
    issuer: str = ""
    told_bundle: str = ""
    believes: str = ""
    asked_renewal: str = ""
    not_before: datetime | None = None
    serial: str = ""
    held_at_s: float | None = None
    has_app: bool | None = None
    metrics_port: int = 0
    metrics_host: str = ""

    def hello(self, held: str, known: Printed | None, now_s: float) -> None:
        """The sidecar says what it holds; whatever was in flight is forgotten.

        Args:
            known: what we know under that version.
        """
        self.held, self.revision = held, known.revision if known else 0
        self.in_flight, self.rejected, self.reason, self.kept = None, "", "", 0
        self.is_greeted, self.changed_at_s = True, now_s
        self.held_at_s = now_s if held else None

    def keep(self, revision: int) -> None:
        """Send nothing older than what it holds: without those policies it would let in what they refuse."""
        self.kept = self.revision = revision
        self.reason = f"holds revision {revision}, which the store has lost: restore it, or apply anew"

    def recognise(self, newest: Printed) -> bool:
        """Learn the revision of a version that was held before we knew it (after our restart).

        Returns:
            Whether that was news.
        """
        if self.held != newest.version or self.revision == newest.revision:
            return False
        self.revision = newest.revision
        return True

    def must_send(self, newest: Printed | None) -> bool:
        """Whether `newest` should go out now."""
        if newest is None or not self.is_greeted or self.in_flight is not None or self.kept:
            return False
        return newest.version not in (self.held, self.rejected)

    def sent(self, snapshot: Printed, now_s: float) -> None:
        self.in_flight, self.changed_at_s = snapshot, now_s

    def ack(self, version: str, now_s: float) -> None:
        """The sidecar decides by `version` from now on; an answer to anything not in flight is ignored."""
        if self.in_flight is not None and self.in_flight.version == version:
            self.held, self.revision = version, self.in_flight.revision
            self.in_flight, self.rejected, self.reason = None, "", ""
            self.changed_at_s = self.held_at_s = now_s

    def nack(self, version: str, reason: str, now_s: float) -> None:
        """The sidecar refused `version` and goes on with what it holds."""
        if self.in_flight is not None and self.in_flight.version == version:
            self.in_flight, self.rejected = None, version
            self.reason = "".join(c if c.isprintable() else " " for c in reason[:MAX_REASON])
            self.changed_at_s = now_s

    def state(self, newest: Printed | None, now_s: float) -> SyncState:
        if not self.is_connected:
            return SyncState.DISCONNECTED
        if newest is None:
            return SyncState.NO_SNAPSHOT
        if self.held == newest.version:
            return SyncState.SYNCED
        if self.kept:
            return SyncState.STALE
        if self.rejected == newest.version:
            return SyncState.REJECTED
        waiting = self.in_flight is not None and now_s - self.changed_at_s > STALE_AFTER_S
        return SyncState.STALE if waiting else SyncState.PENDING
