"""The CA's state as the replicas share it: a sequence of revisions of its own, its keys encrypted.

Until it is changed for the first time, the state is what the CA's files hold. Each change is one revision,
appended by compare-and-swap: two operators, or two replicas, cannot both make the next step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from certs.errors import CertError
from certs.rotation import CaState
from control_plane.errors import Conflict
from control_plane.shared_record import SharedRecord
from control_plane.store.revisions import Document, Revision, Store

__all__ = ["SharedCa"]

NAME = "ca"


class SharedCa(SharedRecord):
    """Args:
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
        super().__init__(store, "the CA's state")
        self._passphrase, self._adopt, self._state = passphrase, adopt, first

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
        return self.revision.number

    async def follow(self) -> None:
        """Take what other replicas stored, until cancelled; nothing where the CA is elsewhere."""
        if self.is_here:
            await super().follow()

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
            held = await self._newest()
            if expected is not None and expected != held.number:
                raise Conflict(expected, held.number)
            state = step(self.state)
            document = Document(NAME, state.to_json(self._passphrase))
            await self._append((document,), author=author, message=why)
            return state

    async def _taken(self, revision: Revision) -> None:
        """Raises:
        CertError: it is damaged, of another passphrase, or cannot sign now.
        """
        if revision.documents:
            state = CaState.from_json(revision.documents[0].text, self._passphrase)
            await self._adopt(state)
            self._state = state
