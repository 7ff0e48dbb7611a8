"""The rollout under way: who its canaries are, what they see, and when it ends; one at a time.

It lives in memory. A control plane that starts again knows nothing of it: canaries get the revision in force,
a watched change stays in force unwatched. That is the safe side of both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from control_plane.audit import Audit
from control_plane.distribution import Distribution
from control_plane.errors import Conflict, ControlPlaneError, NotFound
from control_plane.registry import Applied, Change, Registry
from control_plane.rollout import NOTHING, Figures, Phase, Plan, breach
from control_plane.streams import Stream, SyncState
from control_plane.telemetry import Telemetry
from meshpy.errors import MeshpyError
from meshpy.model.names import ServiceName
from meshpy.policy.policy_set import Document as PolicyDocument

__all__ = ["Rollout", "Rollouts"]

TICK_S = 0.5
AUTOMATIC = "meshpy"
"""The author of revisions that nobody asked for."""


@dataclass(slots=True, eq=False)
class Rollout:
    """One rollout.

    Args:
        before: the documents that were in force when it began.
        base: what the touched services saw just before it began.
        marks: what each sidecar had seen when it began to count as what it is: a canary (once it took the
            candidate), or not.
    """

    plan: Plan
    change: Change
    revision: int
    services: frozenset[ServiceName]
    before: tuple[PolicyDocument, ...]
    base: Figures
    started_s: float
    phase: Phase = Phase.WATCHING
    reason: str = ""
    marks: dict[tuple[Stream, bool], Figures] = field(default_factory=dict)
    canaries: tuple[Stream, ...] = ()
    seen: Figures = NOTHING
    without: Figures = NOTHING

    def to_json(self, now_s: float) -> dict[str, Any]:
        """As `/v1/rollout` shows it."""
        plan = self.plan
        return {
            "revision": self.revision,
            "author": self.change.author,
            "message": self.change.message,
            "phase": str(self.phase),
            "reason": self.reason,
            "canary": None if plan.canary is None else str(plan.canary),
            "canaries": [{"service": str(s.service), "task": s.task} for s in self.canaries],
            "services": sorted(map(str, self.services)),
            "remaining_s": round(max(0.0, self.started_s + plan.watch_s - now_s), 1),
            "bounds": {"denied_pct": plan.bounds.denied_pct, "error_pct": plan.bounds.error_pct},
            "seen": self.seen.to_json(),
            "without": self.without.to_json(),
        }


class Rollouts:
    """Begins, watches and ends them."""

    def __init__(
        self, registry: Registry, distribution: Distribution, telemetry: Telemetry, audit: Audit
    ) -> None:
        self._registry, self._distribution = registry, distribution
        self._telemetry, self._audit = telemetry, audit
        self._turn = asyncio.Lock()
        self.newest: Rollout | None = None

    async def begin(self, change: Change, plan: Plan) -> Applied:
        """Start a rollout.

        Raises:
            Conflict: one is under way, or another revision came first.
            As `Registry.change` otherwise.
        """
        async with self._turn:
            if self.newest is not None and not self.newest.phase.is_over:
                raise Conflict.during_rollout(self.newest.revision)
            registry, now_s = self._registry, time.monotonic()
            before = registry.documents
            others = registry.services
            base = {name: self._telemetry.recent((name,), now_s) for name in others}
            applied = await (registry.stage(change) if plan.canary else registry.change(change))
            self.newest = Rollout(
                plan,
                change,
                applied.revision,
                applied.changed,
                before,
                sum((base[name] for name in applied.changed if name in base), NOTHING),
                time.monotonic(),
            )
            await self._note("rollout-begun")
            self._look(self.newest)
            return applied

    async def promote(self, author: str) -> Rollout:
        """Put the canary's revision in force everywhere.

        Raises:
            NotFound: no canary is under way.
            StoreError: it could not be stored; the canary goes on.
        """
        async with self._turn:
            rollout = self._open_canary()
            await self._promote(rollout, f"promoted by {author}")
            return rollout

    async def abort(self, author: str) -> Rollout:
        """Take the candidate back from its canaries.

        Raises:
            NotFound: no canary is under way.
        """
        async with self._turn:
            rollout = self._open_canary()
            await self._end(rollout, Phase.ABORTED, f"aborted by {author}")
            return rollout

    async def run(self) -> None:
        """Look at what is under way twice a second, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            async with self._turn:
                if self.newest is not None and not self.newest.phase.is_over:
                    try:
                        await self._step(self.newest)
                    except (ControlPlaneError, MeshpyError) as error:
                        self.newest.reason = f"cannot go on: {error}"  # the disk is full, say: tried again

    def _open_canary(self) -> Rollout:
        rollout = self.newest
        if rollout is None or rollout.phase.is_over or rollout.plan.canary is None:
            raise NotFound("no canary is under way; see `meshpy rollout`")
        return rollout

    async def _step(self, rollout: Rollout) -> None:
        plan = rollout.plan
        if plan.canary is None and self._registry.revision.number != rollout.revision:
            newer = self._registry.revision.number
            await self._end(rollout, Phase.KEPT, f"revision {newer} came after it; it is watched no longer")
            return
        if plan.canary is not None and self._registry.revision.number >= rollout.revision:
            await self._end(rollout, Phase.ABORTED, "another replica stored a revision first; apply it again")
            return
        refused = self._look(rollout)
        why = refused or breach(plan.bounds, rollout.without, rollout.seen)
        if why is not None:
            await self._roll_back(rollout, why)
        elif rollout.phase is Phase.WATCHING and time.monotonic() >= rollout.started_s + plan.watch_s:
            await self._pass(rollout)

    async def _pass(self, rollout: Rollout) -> None:
        """The time is over and nothing speaks against it."""
        if rollout.plan.canary is None:
            await self._end(rollout, Phase.KEPT, "it kept within its bounds")
        elif rollout.plan.is_held:
            self._hold(rollout, "it kept within its bounds and waits for `meshpy rollout promote`")
        elif not rollout.seen.is_enough:
            few = rollout.seen.requests
            self._hold(rollout, f"only {few} requests were seen; promote it, or abort it, by hand")
        else:
            await self._promote(rollout, "it kept within its bounds")

    def _hold(self, rollout: Rollout, reason: str) -> None:
        rollout.phase, rollout.reason = Phase.HELD, reason

    def _look(self, rollout: Rollout) -> str | None:
        """Choose canaries and read the figures; the reason when one of them refuses what it was sent."""
        streams = self._distribution.streams(rollout.services)
        if rollout.plan.canary is None:
            subjects, others = streams, []
        else:
            rollout.canaries = tuple(_chosen(streams, rollout))
            self._distribution.choose(rollout.canaries)
            subjects = list(rollout.canaries)
            others = [stream for stream in streams if not stream.is_canary]
        rollout.seen = self._since(rollout, [s for s in subjects if s.revision >= rollout.revision])
        control = self._since(rollout, others)
        rollout.without = control if control.is_enough else rollout.base
        for stream in subjects:
            if self._distribution.state(stream) is SyncState.REJECTED:
                return f"the sidecar of {stream.service}, task {stream.task}, refused it: {stream.reason}"
        return None

    def _since(self, rollout: Rollout, streams: Iterable[Stream]) -> Figures:
        total = NOTHING
        for stream in streams:
            mark = rollout.marks.setdefault((stream, stream.is_canary), stream.traffic)
            total += stream.traffic - mark
        return total

    async def _promote(self, rollout: Rollout, reason: str) -> None:
        await self._registry.promote()
        await self._end(rollout, Phase.PROMOTED, reason)

    async def _roll_back(self, rollout: Rollout, reason: str) -> None:
        if rollout.plan.canary is None:
            message = f"automatic rollback of revision {rollout.revision}: {reason}"
            back = Change(lambda _held: rollout.before, AUTOMATIC, message, expected=rollout.revision)
            await self._registry.change(back)
        await self._end(rollout, Phase.ROLLED_BACK, reason)

    async def _end(self, rollout: Rollout, phase: Phase, reason: str) -> None:
        rollout.phase, rollout.reason = phase, reason
        if rollout.plan.canary is not None:
            await self._registry.unstage()
            self._distribution.choose(())
        await self._note("rollout-ended")

    async def _note(self, event: str) -> None:
        rollout = self.newest
        if rollout is not None:
            await self._audit.write(
                event,
                author=rollout.change.author,
                revision=rollout.revision,
                phase=str(rollout.phase),
                reason=rollout.reason,
            )


def _chosen(streams: Iterable[Stream], rollout: Rollout) -> Iterable[Stream]:
    """Of each service as many as the plan says; who is a canary stays one while it is connected."""
    share = rollout.plan.canary
    if share is None:
        return
    for _, group in groupby(streams, key=lambda stream: stream.service):
        members = sorted(group, key=lambda stream: (stream not in rollout.canaries, stream.task))
        yield from members[: share.of(len(members))]
