"""What a store of revisions is: `sqlite` is embedded, `swarm` is shared, `directory` follows a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["EMPTY", "Document", "Revision", "Store"]


@dataclass(frozen=True, slots=True, order=True)
class Document:
    """One text the operator sent.

    Args:
        name: the file as the operator named it; problems are reported under it.
        text: YAML, one or more documents.
        namespace: of documents in it that name none.
        line: where `text` begins in that file; more than 1 once another part of the file was replaced.
    """

    name: str
    text: str
    namespace: str = "default"
    line: int = 1


@dataclass(frozen=True, slots=True)
class Revision:
    """The whole policy set as of `number`; 0 is the empty set that every mesh begins with.

    Args:
        message: why, in the author's words; empty when none was given.
    """

    number: int
    created: datetime
    author: str
    documents: tuple[Document, ...]
    message: str = ""


EMPTY = Revision(0, datetime.fromtimestamp(0, UTC), "", ())


class Store(Protocol):
    """Invariants: numbers grow by one; a revision that `append` returned survives a SIGKILL; the newest, the
    ones just before it and all pinned ones are kept.
    """

    async def newest(self) -> Revision:
        """The newest revision, `EMPTY` when there is none.

        Raises:
            StoreError: it cannot be read.
        """

    async def get(self, number: int) -> Revision | None:
        """One revision, None when there is none of this number."""

    async def history(self, limit: int, before: int | None = None) -> Sequence[Revision]:
        """The newest revisions, newest first.

        Args:
            before: only those with a smaller number.
        """

    async def append(
        self,
        documents: Sequence[Document],
        *,
        author: str,
        expected: int | None,
        now: datetime,
        message: str = "",
    ) -> Revision:
        """Add a revision.

        Args:
            expected: the number of the newest revision as the author knows it; None takes whatever it is.

        Raises:
            Conflict: another revision came first; nothing was written.
            StorageFull: no space; nothing was written.
            StoreError: any other failure; nothing was acknowledged.
        """

    async def pin(self, number: int) -> None:
        """Keep a revision for as long as it is pinned, however many come after it; 0 and pinned ones stay so.

        Raises:
            NotFound: there is no such revision (any more).
            StoreError: it could not be stored.
        """

    async def unpin(self, number: int) -> None:
        """Let a revision go when it is old enough; one that is not pinned stays so.

        Raises:
            StoreError: it could not be stored.
        """

    async def pinned(self) -> frozenset[int]:
        """The pinned revisions.

        Raises:
            StoreError: it cannot be read.
        """

    def check_writable(self) -> None:
        """Nothing, where `append` may be called.

        Raises:
            ReadOnly: revisions come from elsewhere; the message says where to change them.
        """

    @property
    def problems(self) -> tuple[str, ...]:
        """Why what is stored is not all there is: a folder's newest state is wrong, say."""

    async def close(self) -> None:
        """Release the store's files."""
