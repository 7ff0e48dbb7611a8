"""What replicas share besides policies: a sequence of revisions of its own, read, followed and appended to.

Every reading takes the turn. A reading that began before a change must not come after it: it would put back
what was just revoked, until the next one.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from certs.errors import CertError
from control_plane.errors import BadRequest, StoreError
from control_plane.store.revisions import EMPTY, Document, Revision, Store

__all__ = ["SharedRecord"]

log = logging.getLogger(__name__)

FOLLOW_S = 1.0


class SharedRecord:
    """A subclass says what a revision means by `_taken`, and changes it while it holds `_turn`.

    Args:
        store: where it is kept.
        what: its name, for who reads a log.
    """

    def __init__(self, store: Store, what: str) -> None:
        self._store, self._what = store, what
        self.problem = ""
        self._turn = asyncio.Lock()
        self.revision: Revision = EMPTY

    async def start(self) -> None:
        """Read it.

        Raises:
            StoreError: the store cannot be read, or what it holds is not understood.
        """
        await self.refresh()

    async def follow(self) -> None:
        """Take what other replicas stored, until cancelled; what fails is told once, and tried again."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                await self.refresh()
            except (StoreError, CertError) as error:
                problem = f"{self._what}: not read anew, what is held stays: {error}"
                if problem != self.problem:
                    log.warning("%s", problem)
                self.problem = problem
            else:
                self.problem = ""

    async def refresh(self) -> None:
        """Read it now.

        Raises:
            StoreError: the store cannot be read; what is held stays.
        """
        async with self._turn:
            await self._newest()

    async def _newest(self) -> Revision:
        """The newest revision, taken. Whoever calls has the turn."""
        await self._take(await self._store.newest())
        return self.revision

    async def _append(self, documents: tuple[Document, ...], *, author: str, message: str = "") -> None:
        """Store the successor of the revision that is held, and take it. Whoever calls has the turn.

        Raises:
            Conflict: another replica was first.
            StoreError: it could not be stored; nothing changed.
        """
        now = datetime.now(UTC)
        await self._take(
            await self._store.append(
                documents, author=author, expected=self.revision.number, now=now, message=message
            )
        )

    async def _take(self, revision: Revision) -> None:
        if revision.number == self.revision.number:
            return
        try:
            await self._taken(revision)
        except (BadRequest, ValueError, TypeError, KeyError, AttributeError) as error:
            what = f"{self._what}: revision {revision.number} is not understood by this release: {error}"
            raise StoreError(what) from error
        self.revision = revision

    async def _taken(self, revision: Revision) -> None:
        """Another revision than `self.revision` is in force from now on; where this raises it is not."""
        raise NotImplementedError
