"""Discovery from a Swarm: events, a poll of tasks, and a full re-list, none of which is trusted alone.

Tasks send no events, event streams fall silent (moby#36834, #37825), and a manager without quorum answers
with old or empty lists. So: an event or 20 s bring a full re-list, one second brings the tasks; an answer
that failed, is incomplete, or is empty where something was before, changes nothing. What failed is asked for
again soon: an engine that is back is believed within seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from control_plane.discovery.docker_json import Answers, view_of
from control_plane.discovery.view import DiscoveryHealth, Publish, View
from control_plane.errors import DiscoveryError

__all__ = ["Engine", "SwarmDiscovery"]

_log = logging.getLogger(__name__)

POLL_S = 1.0
RELIST_S = 20.0
RETRY_S = 2.0
SETTLE_S = 0.1
"""Events of one deployment come in a burst; they bring one re-list."""
RECONNECT_S = 2.0


class Engine(Protocol):
    """What is read of a Docker engine; `DockerClient` is the real one."""

    async def everything(self) -> Answers: ...

    async def tasks(self) -> Sequence[Mapping[str, Any]]: ...

    async def watch(self, changed: Callable[[], None]) -> None: ...


class SwarmDiscovery:
    """Publishes a view whenever what the engine says differs from what was published."""

    def __init__(
        self,
        engine: Engine,
        *,
        poll_s: float = POLL_S,
        relist_s: float = RELIST_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._engine = engine
        self._poll_s, self._relist_s, self._retry_s = poll_s, relist_s, min(retry_s, relist_s)
        self._answers: Answers | None = None
        self._view: View | None = None
        self._publish: Publish = lambda _view: None
        self._reading = asyncio.Lock()
        self._stale = asyncio.Event()
        self._problems = {"everything": "the engine has not been read yet", "tasks": ""}
        self._failures = 0
        self._good_at: float | None = None

    @property
    def health(self) -> DiscoveryHealth:
        age_s = None if self._good_at is None else time.monotonic() - self._good_at
        problem = next(filter(None, self._problems.values()), "")
        unread = self._view.unread if self._view is not None else ()
        return DiscoveryHealth("swarm", problem, self._failures, age_s, unread)

    @property
    def _is_good(self) -> bool:
        return not self._problems["everything"]

    async def run(self, publish: Publish) -> None:
        self._publish = publish
        async with asyncio.TaskGroup() as group:
            group.create_task(self._relist_forever())
            group.create_task(self._poll_forever())
            group.create_task(self._watch_forever())

    async def refresh(self) -> None:
        await (self._read_tasks() if self._answers else self._read_everything())

    async def _relist_forever(self) -> None:
        while True:
            self._stale.clear()
            await self._read_everything()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._relist_s if self._is_good else self._retry_s):
                    await self._stale.wait()
            await asyncio.sleep(SETTLE_S)

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            if self._answers is not None:
                await self._read_tasks()

    async def _watch_forever(self) -> None:
        while True:
            with suppress(DiscoveryError):  # the re-list goes on without events, and says what is wrong
                await self._engine.watch(self._stale.set)
            self._stale.set()
            await asyncio.sleep(RECONNECT_S)

    async def _read_everything(self) -> None:
        await self._read("everything", self._engine.everything)

    async def _read_tasks(self) -> None:
        await self._read("tasks", self._engine.tasks)

    async def _read(self, what: str, ask: Callable[[], Awaitable[Any]]) -> None:
        """One read, published if it is good; any failure is counted and changes nothing."""
        async with self._reading:
            try:
                self._accept(await ask())
            except DiscoveryError as error:
                self._problems[what], self._failures = str(error), self._failures + 1
            else:
                # a good list says more than a poll of tasks; a good poll says nothing of a list that failed
                self._problems["tasks"] = self._problems[what] = ""

    def _accept(self, answer: Answers | Sequence[Mapping[str, Any]]) -> None:
        before = self._answers
        if not isinstance(answer, Answers):
            if before is None:
                return
            answer = replace(before, tasks=answer)
        if before is not None:
            _refuse_sudden_emptiness(before, answer)
        last = self._view or View()
        view = view_of(answer, last.inventory.services)
        self._answers, self._good_at = answer, time.monotonic()
        if view != self._view:
            for what in set(view.unread) - set(last.unread):
                _log.warning("%s", what)
            self._view = view
            self._publish(view)


def _refuse_sudden_emptiness(before: Answers, after: Answers) -> None:
    for what in ("services", "tasks", "nodes", "networks"):
        if getattr(before, what) and not getattr(after, what):
            raise DiscoveryError(f"the engine suddenly lists no {what}; the last view is kept")
