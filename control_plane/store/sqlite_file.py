"""The SQLite file of revisions: made, opened, checked, brought to the newest schema.

WAL with synchronous=FULL: a commit is on disk when it returns (sqlite.org/pragma.html#pragma_synchronous).
Each row carries a hash over its content and the row before: SQLite's own check does not see a flipped bit in
a text.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from control_plane.errors import StartRefused

__all__ = ["SELECT", "open_file", "row_hash"]

SCHEMA = """
CREATE TABLE revision (
    number INTEGER PRIMARY KEY,
    created TEXT NOT NULL,
    author TEXT NOT NULL,
    documents TEXT NOT NULL,
    message TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT
"""
PINS = "CREATE TABLE pin (number INTEGER PRIMARY KEY) STRICT"
SCHEMA_VERSION = 3
SELECT = "SELECT number, created, author, documents, message, hash FROM revision"


def open_file(path: Path) -> sqlite3.Connection:
    """Open the file, or make it.

    Raises:
        StartRefused: it is empty, damaged, of another version, or cannot be opened; it is named.
    """
    if not path.exists():
        _create(path)
    if path.stat().st_size == 0:
        raise StartRefused(f"{path}: is empty; restore it from a backup, or remove it to start anew")
    try:
        connection = _connect(path)
        _check_pages(connection)
        _check_release(path, _version(connection))
        _migrate(connection)
        _verify(connection.execute(f"{SELECT} ORDER BY number"))
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise StartRefused(f"{path}: is damaged ({error}); restore it from a backup") from error
    return connection


def row_hash(before: str, *columns: object) -> str:
    """The hash of a row's columns, chained to that of the row before; "" before the first."""
    content = json.dumps([before, *columns], ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _create(path: Path) -> None:
    """Make the file under another name and move it into place: it is whole or not there."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(draft, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(SCHEMA)
        connection.execute(PINS)
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


def _check_pages(connection: sqlite3.Connection) -> None:
    verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
    if verdict != "ok":
        raise ValueError(verdict)


def _check_release(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise StartRefused(
            f"{path}: was written by a newer release (schema version {version}, this one knows"
            f" {SCHEMA_VERSION}): start that release, or restore a backup of this one"
        )
    if version < 1:
        raise ValueError(f"schema version {version} is none of 1 to {SCHEMA_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _verify(rows: Iterable[Sequence[Any]]) -> None:
    before = ""
    for number, row in enumerate(rows, start=1):
        if row[0] != number:
            raise ValueError(f"revision {number} is missing")
        if row[-1] != row_hash(before, *row[:-1]):
            raise ValueError(f"revision {number} does not match its hash")
        before = row[-1]


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring a file of schema 1 (no messages) or 2 (no pins) to this one; all or nothing."""
    if _version(connection) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        held = _version(connection)  # another process may have been here first
        if held == 1:
            _add_messages(connection)
        if held < SCHEMA_VERSION:
            connection.execute(PINS)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _add_messages(connection: sqlite3.Connection) -> None:
    old = "SELECT number, created, author, documents, hash FROM revision ORDER BY number"
    rows = connection.execute(old).fetchall()
    _verify(rows)
    connection.execute("DROP TABLE revision")
    connection.execute(SCHEMA)
    before = ""
    for row in rows:
        values = (*row[:-1], "")
        before = row_hash(before, *values)
        connection.execute("INSERT INTO revision VALUES (?, ?, ?, ?, ?, ?)", (*values, before))
