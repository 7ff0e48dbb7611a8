"""The CA's state as the replicas share it: a sequence of revisions of its own, its keys encrypted.

Until it is changed for the first time, the state is what the CA's files hold. Each change is one revision,
appended by compare-and-swap: two operators, or two replicas, cannot both make the next step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from certs.errors import CertError
from certs.rotation import CaState
from control_plane.errors import Conflict, StoreError
from control_plane.store.revisions import EMPTY, Document, Revision, Store

__all__ = ["SharedCa"]

log = logging.getLogger(__name__)

FOLLOW_S = 1.0
NAME = "ca"


class SharedCa:
    """Args:
    store: where it is kept.
    first: what the files hold; None when the CA is elsewhere.
    passphrase: of the keys in the store.
    adopt: puts a state to work; raises CertError when it cannot.
    """

    def __init__(
        self,
        store: Store,
        first: CaState | None,
        passphrase: bytes,
        adopt: Callable[[CaState], Awaitable[None]],
    ) -> None:
        self._store, self._passphrase, self._adopt = store, passphrase, adopt
        self._turn = asyncio.Lock()
        self._revision: Revision = EMPTY
        self._state = first

    @property
    def is_here(self) -> bool:
        """Whether there is a state: not when the CA is elsewhere."""
        return self._state is not None

    @property
    def state(self) -> CaState:
        """The state in force.

        Raises:
            CertError: the CA is elsewhere, and has no state here.
        """
        if self._state is None:
            raise CertError("the CA is elsewhere")
        return self._state

    @property
    def number(self) -> int:
        """Of the state's revision; 0 is what the files hold."""
        return self._revision.number

    async def start(self) -> None:
        """Read it.

        Raises:
            StoreError: the store cannot be read.
            CertError: what it holds is damaged, or of another passphrase.
        """
        await self._take(await self._store.newest())

    async def follow(self) -> None:
        """Take what other replicas stored, until cancelled."""
        while self.is_here:
            await asyncio.sleep(FOLLOW_S)
            try:
                async with self._turn:
                    await self._take(await self._store.newest())
            except (StoreError, CertError) as error:
                log.warning("the CA's state is not read anew, the last one stays: %s", error)

    async def change(
        self, step: Callable[[CaState], CaState], *, author: str, why: str, expected: int | None = None
    ) -> CaState:
        """Make one step: stored first, then put to work.

        Args:
            expected: the number of the state that the author saw.

        Raises:
            CertError: the step cannot be made from this state.
            Conflict: somebody else was first.
            StoreError: it could not be stored; nothing changed.
        """
        async with self._turn:
            held = await self._store.newest()
            await self._take(held)
            if expected is not None and expected != held.number:
                raise Conflict(expected, held.number)
            state = step(self.state)
            stored = await self._store.append(
                (Document(NAME, state.to_json(self._passphrase)),),
                author=author,
                expected=held.number,
                now=datetime.now(UTC),
                message=why,
            )
            await self._take(stored)
            return state

    async def _take(self, revision: Revision) -> None:
        if revision.number == self._revision.number or not revision.documents:
            return
        state = CaState.from_json(revision.documents[0].text, self._passphrase)
        await self._adopt(state)
        self._state, self._revision = state, revision
