"""Revisions in one SQLite file: the embedded default.

WAL with synchronous=FULL: a commit is on disk when it returns (sqlite.org/pragma.html#pragma_synchronous).
The log is folded back after every append, so that a lost or cut `-wal` file cannot take a revision with it.
Each row carries a hash over its content and the row before: SQLite's own check does not see a flipped bit in
a text.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from control_plane.errors import Conflict, StartRefused, StorageFull, StoreError
from control_plane.store.revisions import EMPTY, Document, Revision

__all__ = ["SqliteStore"]

T = TypeVar("T")

SCHEMA = """
CREATE TABLE revision (
    number INTEGER PRIMARY KEY,
    created TEXT NOT NULL,
    author TEXT NOT NULL,
    documents TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT
"""
SCHEMA_VERSION = 1


class SqliteStore:
    """One connection, used by one thread of its own.

    Raises:
        StartRefused: the file is empty, damaged, of another version, or cannot be opened; it is named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            self._connection = self._thread.submit(self._open).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def _open(self) -> sqlite3.Connection:
        if not self.path.exists():
            _create(self.path)
        if self.path.stat().st_size == 0:
            raise StartRefused(f"{self.path}: is empty; restore it from a backup, or remove it to start anew")
        try:
            connection = _connect(self.path)
            _check(connection)
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise StartRefused(f"{self.path}: is damaged ({error}); restore it from a backup") from error
        return connection

    async def newest(self) -> Revision:
        return await self._run(lambda c: _one(c, "ORDER BY number DESC LIMIT 1", ()) or EMPTY)

    async def get(self, number: int) -> Revision | None:
        if number == 0:
            return EMPTY
        return await self._run(lambda c: _one(c, "WHERE number = ?", (number,)))

    async def history(self, limit: int) -> Sequence[Revision]:
        def read(connection: sqlite3.Connection) -> list[Revision]:
            rows = connection.execute(f"{SELECT} ORDER BY number DESC LIMIT ?", (limit,))
            return [_revision(row) for row in rows]

        return await self._run(read)

    async def append(
        self, documents: Sequence[Document], *, author: str, expected: int | None, now: datetime
    ) -> Revision:
        def write(connection: sqlite3.Connection) -> Revision:
            return _append(connection, tuple(documents), author, expected, now)

        return await self._run(write)

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


SELECT = "SELECT number, created, author, documents, hash FROM revision"


def _create(path: Path) -> None:
    """Make the file under another name and move it into place: it is whole or not there."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(draft, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(SCHEMA)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.close()
        try:
            os.link(draft, path)  # unlike rename, it never replaces a store another process just made
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except (OSError, sqlite3.Error) as error:
        raise StartRefused(f"{path}: cannot be created: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    # autocommit: transactions are written out; the timeout is for a second process on the same file
    connection = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=True)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _check(connection: sqlite3.Connection) -> None:
    verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
    if verdict != "ok":
        raise ValueError(verdict)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise ValueError(f"schema version {version} is not {SCHEMA_VERSION}")
    before = ""
    for number, row in enumerate(connection.execute(f"{SELECT} ORDER BY number"), start=1):
        if row[0] != number:
            raise ValueError(f"revision {number} is missing")
        if row[4] != _hash(before, *row[:4]):
            raise ValueError(f"revision {number} does not match its hash")
        before = row[4]


def _hash(before: str, number: int, created: str, author: str, documents: str) -> str:
    content = json.dumps([before, number, created, author, documents], ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _append(
    connection: sqlite3.Connection,
    documents: tuple[Document, ...],
    author: str,
    expected: int | None,
    now: datetime,
) -> Revision:
    text = json.dumps([[d.name, d.text, d.namespace, d.line] for d in documents], ensure_ascii=True)
    connection.execute("BEGIN IMMEDIATE")
    try:
        row = connection.execute("SELECT number, hash FROM revision ORDER BY number DESC LIMIT 1").fetchone()
        newest, before = row or (0, "")
        if expected is not None and expected != newest:
            raise Conflict(expected, newest)  # noqa: TRY301 - the rollback below is for every way out
        created = now.astimezone(UTC)
        values = (newest + 1, created.isoformat(), author, text)
        connection.execute("INSERT INTO revision VALUES (?, ?, ?, ?, ?)", (*values, _hash(before, *values)))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    with contextlib.suppress(sqlite3.Error):  # the commit stands; the next append folds the log back
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return Revision(newest + 1, created, author, documents)


def _one(connection: sqlite3.Connection, clause: str, values: tuple[Any, ...]) -> Revision | None:
    row = connection.execute(f"{SELECT} {clause}", values).fetchone()
    return _revision(row) if row else None


def _revision(row: Sequence[Any]) -> Revision:
    number, created, author, documents, _ = row
    return Revision(
        number,
        datetime.fromisoformat(created),
        author,
        tuple(Document(*fields) for fields in json.loads(documents)),
    )
