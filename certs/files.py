"""Files written whole or not at all.

Source for the order of calls: rename(2) is atomic, but neither data nor names are durable before fsync(2)
of the file and of its directory.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from certs.errors import StoreError

__all__ = ["read_file", "sync_directory", "write_atomic", "write_new"]


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data`, durably; a reader or a crash sees the old file or the new one.

    Raises:
        StoreError: the disk is full, read-only or broken; the old file still stands.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_new(scratch, data, mode)
        scratch.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def read_file(path: Path) -> bytes:
    """The bytes of `path`.

    Raises:
        StoreError: it is missing or unreadable; the text names it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error


def write_new(path: Path, data: bytes, mode: int) -> None:
    """A file that was not there, durably but for its name.

    Raises:
        OSError: it is there, or the disk refuses.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def sync_directory(directory: Path) -> None:
    """Make the names in it durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
