"""What a store of revisions is; `sqlite` is the embedded one."""

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
    """Invariants: numbers have no gaps; a revision that `append` returned survives a SIGKILL."""

    async def newest(self) -> Revision:
        """The newest revision, `EMPTY` when there is none.

        Raises:
            StoreError: it cannot be read.
        """

    async def get(self, number: int) -> Revision | None:
        """One revision, None when there is none of this number."""

    async def history(self, limit: int) -> Sequence[Revision]:
        """The newest revisions, newest first."""

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

    async def close(self) -> None:
        """Release the store's files."""
