"""Revisions in one SQLite file: the embedded default.

The log is folded back after every append, so that a lost or cut `-wal` file cannot take a revision with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from control_plane.errors import Conflict, NotFound, StorageFull, StoreError
from control_plane.store.revisions import EMPTY, Document, Revision
from control_plane.store.sqlite_file import SELECT, open_file, row_hash

__all__ = ["SqliteStore"]

T = TypeVar("T")


class SqliteStore:
    """One connection, used by one thread of its own.

    Raises:
        StartRefused: the file is empty, damaged, of another version, or cannot be opened; it is named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            self._connection = self._thread.submit(open_file, path).result()
        except BaseException:
            self._thread.shutdown()
            raise

    async def newest(self) -> Revision:
        return await self._run(lambda c: _one(c, "ORDER BY number DESC LIMIT 1", ()) or EMPTY)

    async def get(self, number: int) -> Revision | None:
        if number == 0:
            return EMPTY
        return await self._run(lambda c: _one(c, "WHERE number = ?", (number,)))

    async def history(self, limit: int, before: int | None = None) -> Sequence[Revision]:
        def read(connection: sqlite3.Connection) -> list[Revision]:
            newer = sys.maxsize if before is None else before
            rows = connection.execute(
                f"{SELECT} WHERE number < ? ORDER BY number DESC LIMIT ?", (newer, limit)
            )
            return [_revision(row) for row in rows]

        return await self._run(read)

    async def append(
        self,
        documents: Sequence[Document],
        *,
        author: str,
        expected: int | None,
        now: datetime,
        message: str = "",
    ) -> Revision:
        draft = Revision(0, now.astimezone(UTC), author, tuple(documents), message)

        def write(connection: sqlite3.Connection) -> Revision:
            return _append(connection, draft, expected)

        return await self._run(write)

    async def pin(self, number: int) -> None:
        def write(connection: sqlite3.Connection) -> None:
            if _one(connection, "WHERE number = ?", (number,)) is None:
                raise NotFound(f"there is no revision {number}")
            connection.execute("INSERT OR IGNORE INTO pin VALUES (?)", (number,))

        if number != 0:
            await self._run(write)

    async def unpin(self, number: int) -> None:
        await self._run(lambda c: c.execute("DELETE FROM pin WHERE number = ?", (number,)))

    async def pinned(self) -> frozenset[int]:
        rows = await self._run(lambda c: c.execute("SELECT number FROM pin").fetchall())
        return frozenset(number for (number,) in rows)

    def check_writable(self) -> None:
        """It always is."""

    @property
    def problems(self) -> tuple[str, ...]:
        return ()

    async def close(self) -> None:
        await self._run(lambda c: c.close())
        self._thread.shutdown()

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def guarded() -> T:
            try:
                return work(self._connection)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                    raise StorageFull(f"{self.path}: no space is left") from error
                raise StoreError(f"{self.path}: {error}") from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)


def _append(connection: sqlite3.Connection, draft: Revision, expected: int | None) -> Revision:
    text = json.dumps([[d.name, d.text, d.namespace, d.line] for d in draft.documents], ensure_ascii=True)
    connection.execute("BEGIN IMMEDIATE")
    try:
        row = connection.execute("SELECT number, hash FROM revision ORDER BY number DESC LIMIT 1").fetchone()
        newest, before = row or (0, "")
        if expected is not None and expected != newest:
            raise Conflict(expected, newest)  # noqa: TRY301 - the rollback below is for every way out
        values = (newest + 1, draft.created.isoformat(), draft.author, text, draft.message)
        row = (*values, row_hash(before, *values))
        connection.execute("INSERT INTO revision VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    with contextlib.suppress(sqlite3.Error):  # the commit stands; the next append folds the log back
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return replace(draft, number=newest + 1)


def _one(connection: sqlite3.Connection, clause: str, values: tuple[Any, ...]) -> Revision | None:
    row = connection.execute(f"{SELECT} {clause}", values).fetchone()
    return _revision(row) if row else None


def _revision(row: Sequence[Any]) -> Revision:
    number, created, author, documents, message, _ = row
    return Revision(
        number,
        datetime.fromisoformat(created),
        author,
        tuple(Document(*fields) for fields in json.loads(documents)),
        message,
    )
