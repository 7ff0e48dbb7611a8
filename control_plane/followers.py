"""Who has followed a step of a root rotation, and who lags: what `meshpy ca rotate` waits for.

Expected is everybody who could fail by the next step: the sidecars that are connected, those that left
lately, every running sidecar task that the engine knows, every holder of a certificate that has not ended.
Ready is who acknowledged the bundle and, once the new root signs, shows a certificate under it. Replicas that
share a store tell each other who is ready with them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from certs.rotation import Phase
from control_plane.ca_state import SharedCa
from control_plane.discovery.view import View
from control_plane.distribution import Distribution
from control_plane.errors import Conflict, StoreError
from control_plane.store.revisions import Document, Store
from control_plane.streams import Stream
from meshpy.model.names import ServiceName

__all__ = ["Followers", "Laggard"]

log = logging.getLogger(__name__)

EVERY_S = 1.0
TOLD_AGAIN_S = 10.0
FRESH_S = 45.0
"""A replica that has told nothing for so long is gone; its sidecars are with others by then."""

Key = tuple[str, str]
"""Service and task."""


@dataclass(frozen=True, slots=True, order=True)
class Laggard:
    """A sidecar that the next step could cut off."""

    service: str
    task: str
    why: str

    @property
    def name(self) -> str:
        """As `--force` takes it."""
        return f"{self.service}/{self.task}" if self.task else self.service


class Followers:
    """Args:
    store: shared by replicas; None when this one is alone.
    replica: this one's name among them.
    """

    def __init__(
        self,
        distribution: Distribution,
        ca: SharedCa,
        view: Callable[[], View],
        store: Store | None = None,
        replica: str = "",
    ) -> None:
        self._distribution, self._ca, self._view = distribution, ca, view
        self._store, self._replica = store, replica
        self._holders: dict[Key, datetime] = {}
        self._elsewhere: frozenset[Key] = frozenset()
        self._told: tuple[float, tuple[int, frozenset[Key]]] = (0.0, (0, frozenset()))

    def remember(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Learn from the audit log who holds a certificate that has not ended."""
        for record in records:
            if record.get("event") == "certificate-issued":
                with suppress(KeyError, ValueError, TypeError):
                    ends = datetime.fromisoformat(str(record["not_after"]))
                    self._holders[str(record["service"]), str(record.get("task", ""))] = ends

    def issued(self, service: ServiceName, task: str, not_after: datetime) -> None:
        """Somebody was given a certificate."""
        self._holders[str(service), task] = not_after

    def laggards(self) -> list[Laggard]:
        """Everybody who is not ready for the next step, by name."""
        ready = self._ready_here() | self._elsewhere
        return sorted(Laggard(*key, why) for key, why in self._expected().items() if key not in ready)

    def counts(self) -> tuple[int, int]:
        """How many are ready, of how many."""
        expected = self._expected()
        return len(expected) - len(self.laggards()), len(expected)

    async def run(self) -> None:
        """Tell the other replicas during a rotation, and learn from them, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            if self._store is None or not self._ca.is_here or self._ca.state.phase is Phase.STEADY:
                self._elsewhere = frozenset()
                continue
            try:
                await self._exchange(self._store)
            except Conflict:
                pass  # another replica told something in this moment: again in the next
            except StoreError as error:
                log.warning("the progress of other replicas is not known: %s", error)

    async def _exchange(self, store: Store) -> None:
        newest = await store.newest()
        told = {document.name: document.text for document in newest.documents}
        self._elsewhere = self._read(told)
        mine = (self._ca.number, self._ready_here())
        at, before = self._told
        if mine == before and time.monotonic() - at < TOLD_AGAIN_S:
            return
        number, ready = mine
        fresh = {name: text for name, text in told.items() if _is_fresh(text)}
        fresh[self._replica] = json.dumps({"at": time.time(), "ca": number, "ready": sorted(ready)})
        await store.append(
            tuple(Document(name, text) for name, text in sorted(fresh.items())),
            author=self._replica,
            expected=newest.number,
            now=datetime.now(UTC),
        )
        self._told = time.monotonic(), mine

    def _read(self, told: Mapping[str, str]) -> frozenset[Key]:
        ready: set[Key] = set()
        for name, text in told.items():
            if name != self._replica and _is_fresh(text):
                said = json.loads(text)
                if said["ca"] == self._ca.number:
                    ready.update((str(service), str(task)) for service, task in said["ready"])
        return frozenset(ready)

    def _ready_here(self) -> frozenset[Key]:
        return frozenset(_key(stream) for stream in self._distribution.connected() if not self._lacks(stream))

    def _lacks(self, stream: Stream) -> str:
        """What a connected sidecar has not done yet; empty when it is ready."""
        if stream.believes != self._ca.state.bundle_id:
            return "has not acknowledged the trust bundle"
        if self._ca.state.phase is Phase.ISSUING and stream.issuer != self._ca.state.issuer.key_id:
            return "still shows a certificate under the old root"
        return ""

    def _expected(self) -> dict[Key, str]:
        """Who could fail by the next step, with what would be said of it."""
        found: dict[Key, str] = {}
        now, view = datetime.now(UTC), self._view()
        for key, ends in list(self._holders.items()):
            if ends <= now or (view.tasks and key[1] not in view.tasks):
                del self._holders[key]
            else:
                found[key] = f"is not connected and holds a certificate until {ends.isoformat()}"
        for task, known in view.tasks.items():
            found[str(known.service), task] = "runs and is not connected"
        for stream in self._distribution.gone(view):
            found[_key(stream)] = "left and has not come back"
        for stream in self._distribution.connected():
            found[_key(stream)] = self._lacks(stream)
        return found


def _key(stream: Stream) -> Key:
    return str(stream.service), stream.task


def _is_fresh(text: str) -> bool:
    try:
        return abs(time.time() - float(json.loads(text)["at"])) < FRESH_S
    except (ValueError, KeyError, TypeError):
        return False
