"""Policies from a folder (GitOps): whoever changes its files changes the mesh, and nobody else does.

The folder holds the present and a store beside it the past: every state that is right and stands still
becomes a revision there. A state that is wrong, half written, unreadable or suddenly empty becomes none; the
last one stays in force and `problems` says why. The folder is looked at by its entries' times, sizes and
inodes, not by inotify, which is silent on network file systems and bind mounts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from control_plane.errors import Conflict, ReadOnly, StartRefused
from control_plane.store.folder import BeingWritten, FolderProblem, State, look, read
from control_plane.store.revisions import EMPTY, Document, Revision, Store
from meshpy.errors import DocumentError

__all__ = ["AUTHOR", "DirectoryStore"]

AUTHOR = "directory"
SETTLE_S = 1.0
"""How long nothing may be written before a state is taken: files of one change come one after another."""

BEGIN_TRIES, BEGIN_PAUSE_S = 50, 0.1
"""How often a first state is read that is being written."""

Check = Callable[[Sequence[Document]], Awaitable[None]]


async def _take_any(_documents: Sequence[Document]) -> None:
    """No check."""


class DirectoryStore:
    """Args:
    history: where the states that were taken are kept; closed with this store.
    check: raises DocumentError for documents that cannot be put in force.
    """

    def __init__(
        self, folder: Path, history: Store, *, check: Check = _take_any, settle_s: float = SETTLE_S
    ) -> None:
        self.folder, self.check = folder, check
        self._history, self._settle_s = history, settle_s
        self._turn = asyncio.Lock()
        self._has_begun = False
        self._seen: State | None = None
        self._seen_at_s = 0.0
        self._judged: State | None = None
        self._problems: tuple[str, ...] = ()

    async def newest(self) -> Revision:
        """Look at the folder and answer with the newest state that was taken.

        Raises:
            StartRefused: nothing was ever taken, and the folder's first state is wrong.
        """
        async with self._turn:
            newest = await self._history.newest()
            if newest == EMPTY and not self._has_begun:
                await self._begin()
            elif await asyncio.to_thread(self._has_settled):
                await self._judge(newest)
            return await self._history.newest()

    async def get(self, number: int) -> Revision | None:
        return await self._history.get(number)

    async def history(self, limit: int, before: int | None = None) -> Sequence[Revision]:
        return await self._history.history(limit, before)

    async def append(
        self,
        documents: Sequence[Document],
        *,
        author: str,
        expected: int | None,
        now: datetime,
        message: str = "",
    ) -> Revision:
        del documents, author, expected, now, message
        raise self._read_only()

    async def pin(self, number: int) -> None:
        await self._history.pin(number)

    async def unpin(self, number: int) -> None:
        await self._history.unpin(number)

    async def pinned(self) -> frozenset[int]:
        return await self._history.pinned()

    def check_writable(self) -> None:
        raise self._read_only()

    @property
    def problems(self) -> tuple[str, ...]:
        return self._problems

    async def close(self) -> None:
        await self._history.close()

    def _read_only(self) -> ReadOnly:
        return ReadOnly(f"policies come from the folder {self.folder}; change its files instead")

    def _has_settled(self) -> bool:
        """Whether there is a state that was not judged yet and that nobody is writing."""
        try:
            state = look(self.folder)
        except FolderProblem as error:
            self._seen, self._judged, self._problems = None, None, (str(error),)
            return False
        now_s = time.monotonic()
        if state != self._seen:
            self._seen, self._seen_at_s = state, now_s
        return state != self._judged and now_s - self._seen_at_s >= self._settle_s

    async def _begin(self) -> None:
        """The first state ever; a mesh without its policies would be open, so it is this one or no start."""
        try:
            documents = await self._first()
            await self.check(documents)
        except FolderProblem as error:
            raise StartRefused(str(error)) from error
        except DocumentError as error:
            raise StartRefused("; ".join(map(str, error.problems))) from error
        self._judged, self._has_begun = self._seen, True
        if documents:
            await self._store(documents, EMPTY)

    async def _first(self) -> tuple[Document, ...]:
        for _ in range(BEGIN_TRIES):
            self._seen = look(self.folder)
            with suppress(BeingWritten):
                return await asyncio.to_thread(read, self._seen)
            await asyncio.sleep(BEGIN_PAUSE_S)
        raise FolderProblem(f"{self.folder}: is written to all the time; a first state is needed to start")

    async def _judge(self, newest: Revision) -> None:
        state = self._seen
        if state is None:
            return
        try:
            documents = await asyncio.to_thread(read, state)
            if not documents and newest.documents:
                raise FolderProblem(  # noqa: TRY301 - one way out for all that is wrong
                    f"{self.folder}: holds no policies any more, {len(newest.documents)} stay in force;"
                    " leave a file with a comment alone to mean none"
                )
            if documents != newest.documents:
                await self.check(documents)
                await self._store(documents, newest)
        except BeingWritten as error:
            self._seen, self._problems = None, (str(error),)
            return
        except FolderProblem as error:
            self._problems = (str(error),)
        except DocumentError as error:
            self._problems = tuple(map(str, error.problems))
        else:
            self._problems = ()
        self._judged = state

    async def _store(self, documents: Sequence[Document], newest: Revision) -> None:
        now, message = datetime.now(UTC), _commit(self.folder)
        with suppress(Conflict):  # another process on the same history took the same folder first
            await self._history.append(
                documents, author=AUTHOR, expected=newest.number, now=now, message=message
            )


def _commit(folder: Path) -> str:
    """`commit <id>` where the folder is part of a Git checkout; empty elsewhere."""
    try:
        root = folder.resolve()
        for parent in (root, *root.parents):
            head = parent / ".git" / "HEAD"
            if head.is_file():
                text = head.read_text(encoding="ascii").strip()
                if text.startswith("ref: "):
                    text = (parent / ".git" / text.removeprefix("ref: ")).read_text(encoding="ascii").strip()
                return f"commit {text}" if text.isalnum() and len(text) in (40, 64) else ""
    except (OSError, UnicodeDecodeError):
        pass  # packed references, a worktree: the message is a kindness, no promise
    return ""
