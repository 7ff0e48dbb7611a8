"""What was learned, in one file of the data directory: a restart learns nothing anew.

Printed in the loop as plain lists, made into text and written beside it. A file that is torn, of another
format or older than MAX_AGE_S counts as none: a mesh that nobody watched for so long is learned again.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from control_plane.anomalies.watch import Watch

__all__ = ["KEEP_EVERY_S", "BaselineFile"]

KEEP_EVERY_S = 60.0
MAX_AGE_S = 14 * 86_400.0
MAX_BYTES = 64 * 2**20
_FORMAT = 1


class BaselineFile:
    """Args:
    clock: seconds since the epoch.
    """

    def __init__(self, file: Path, watch: Watch, clock: Callable[[], float] = time.time) -> None:
        self._file, self._watch, self._clock = file, watch, clock
        self._writing = threading.Lock()

    def resume(self) -> bool:
        """Have the watch go on from what was kept; whether there was anything."""
        with suppress(OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
            if self._file.stat().st_size > MAX_BYTES:
                return False
            kept = json.loads(self._file.read_text())
            if kept["format"] == _FORMAT and self._clock() - kept["at_s"] < MAX_AGE_S:
                self._watch.resume(kept["watch"])
                return True
        return False

    async def run(self) -> None:
        """Keep it, until cancelled, and once more at the end."""
        if not self._watch.is_on:
            return
        try:
            while True:
                await asyncio.sleep(KEEP_EVERY_S)
                await asyncio.to_thread(self._write, self._watch.state())
        finally:
            self._write(self._watch.state())

    def _write(self, state: Mapping[str, Any]) -> None:
        """A disk that is full costs the copy, not the watch."""
        text = json.dumps({"format": _FORMAT, "at_s": self._clock(), "watch": state}, separators=(",", ":"))
        draft = self._file.with_suffix(".new")
        with self._writing, suppress(OSError):  # the last one may come while a thread still writes
            draft.write_text(text)
            os.replace(draft, self._file)
