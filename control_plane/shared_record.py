"""What replicas share besides policies: a sequence of revisions of its own, read, followed and appended to.

Every reading takes the turn. A reading that began before a change must not come after it: it would put back
what was just revoked, until the next one.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

from control_plane.errors import StoreError
from control_plane.store.revisions import EMPTY, Document, Revision, Store

__all__ = ["SharedRecord"]

FOLLOW_S = 1.0


class SharedRecord:
    """A subclass says what a revision means by `_taken`, and changes it while it holds `_turn`.

    Args:
        store: where it is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = asyncio.Lock()
        self.revision: Revision = EMPTY

    async def start(self) -> None:
        """Read it.

        Raises:
            StoreError: the store cannot be read.
        """
        await self.refresh()

    async def follow(self) -> None:
        """Take what other replicas stored, until cancelled; a store that fails is asked again."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            with suppress(StoreError):
                await self.refresh()

    async def refresh(self) -> None:
        """Read it now.

        Raises:
            StoreError: the store cannot be read; what is held stays.
        """
        async with self._turn:
            await self._newest()

    async def _newest(self) -> Revision:
        """The newest revision, taken. Whoever calls has the turn."""
        self._take(await self._store.newest())
        return self.revision

    async def _append(self, documents: tuple[Document, ...], *, author: str, message: str = "") -> None:
        """Store the successor of the revision that is held, and take it. Whoever calls has the turn.

        Raises:
            Conflict: another replica was first.
            StoreError: it could not be stored; nothing changed.
        """
        now = datetime.now(UTC)
        self._take(
            await self._store.append(
                documents, author=author, expected=self.revision.number, now=now, message=message
            )
        )

    def _take(self, revision: Revision) -> None:
        if revision.number != self.revision.number:
            self.revision = revision
            self._taken()

    def _taken(self) -> None:
        """`revision` is another one than before."""
        raise NotImplementedError
