"""Discovery from files: an inventory in JSON, or stack files; read again whenever a file changes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

from control_plane.discovery.view import DiscoveryHealth, Publish, View
from control_plane.errors import DiscoveryError
from meshpy.errors import MeshpyError
from meshpy.model.inventory import Inventory
from meshpy.wire import decode

__all__ = ["StaticDiscovery", "read_inventory"]

POLL_S = 0.5

ReadInventory = Callable[[], Inventory]


def read_inventory(path: Path) -> Inventory:
    """Read what `meshpy.wire.encode(inventory)` printed.

    Raises:
        DiscoveryError: the file cannot be read or is not of that form.
    """
    try:
        return decode(Inventory, json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DiscoveryError(f"{path}: cannot be read: {error.strerror}") from error
    except (MeshpyError, ValueError, RecursionError) as error:
        raise DiscoveryError(f"{path}: {error}") from error


class StaticDiscovery:
    """One file, watched by its modification time, size and inode every half second.

    Args:
        read: reads the file; raises DiscoveryError.
    """

    def __init__(self, path: Path, read: ReadInventory, *, poll_s: float = POLL_S) -> None:
        self._path, self._read_file, self._poll_s = path, read, poll_s
        self._publish: Publish = lambda _view: None
        self._seen: tuple[int, int, int] | None = None
        self._problem, self._failures = "", 0
        self._good_at: float | None = None

    @property
    def health(self) -> DiscoveryHealth:
        age_s = None if self._good_at is None else time.monotonic() - self._good_at
        return DiscoveryHealth("static", self._problem, self._failures, age_s)

    async def run(self, publish: Publish) -> None:
        self._publish = publish
        while True:
            await self.refresh()
            await asyncio.sleep(self._poll_s)

    async def refresh(self) -> None:
        stamp = self._stamp()
        if stamp == self._seen and not self._problem:
            return
        try:
            inventory = await asyncio.to_thread(self._read_file)
        except DiscoveryError as error:
            self._problem, self._failures = str(error), self._failures + 1
            return
        self._problem, self._good_at = "", time.monotonic()
        if stamp != self._seen:
            self._seen = stamp
            self._publish(View(inventory))

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError as error:
            self._problem = f"{self._path}: cannot be read: {error.strerror}"
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
