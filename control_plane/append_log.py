"""An append-only file of JSON lines, each on disk before it counts; the audit log and revocations use it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from control_plane.errors import StartRefused, StorageFull, StoreError

__all__ = ["AppendLog", "line_of"]


def line_of(record: Mapping[str, Any]) -> bytes:
    """A record as its line, without the end of the line."""
    return json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode()


class AppendLog:
    """Opened once, written by one process.

    Invariants: a line that `append` returned for is on disk. A last line without its newline was never
    acknowledged (the process died in the write) and is cut off when the file is opened.

    Raises:
        StartRefused: the file cannot be opened, or a complete line of it is no JSON object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._cut_torn_line()
        except OSError as error:
            raise StartRefused(f"{path}: cannot be opened: {error.strerror}") from error

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._file).st_size
        end = size
        while end > 0 and os.pread(self._file, 1, end - 1) != b"\n":
            end -= 1
        if end != size:
            os.ftruncate(self._file, end)
            os.fsync(self._file)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record and wait for the disk. Blocks: call it in a thread.

        Raises:
            StorageFull: no space; the file is as it was.
            StoreError: any other failure of the disk.
        """
        self.append_line(line_of(record))

    def append_line(self, content: bytes) -> None:
        """As `append`, with the line as `line_of` made it."""
        line = content + b"\n"
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            if written != len(line):
                os.ftruncate(self._file, size)
                raise StorageFull(f"{self.path}: no space is left")
            os.fsync(self._file)
        except OSError as error:
            kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
            raise kind(f"{self.path}: {error.strerror}") from error

    def records(self) -> list[dict[str, Any]]:
        """Every record, oldest first.

        Raises:
            StartRefused: a line is damaged; the message names file and line.
        """
        found: list[dict[str, Any]] = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                raise StartRefused(f"{self.path}:{number}: is damaged; restore the file from a backup")
            found.append(record)
        return found

    def close(self) -> None:
        os.close(self._file)
