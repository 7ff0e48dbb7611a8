"""The audit log: certificates issued and refused, and what operators changed; on disk before it counts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from control_plane.append_log import AppendLog

__all__ = ["Audit"]

MAX_TEXT = 500


class Audit:
    """Records of `{"at", "event", …}`, one JSON object a line; control characters are escaped by JSON."""

    def __init__(self, log: AppendLog) -> None:
        self._log = log
        self._turn = asyncio.Lock()
        self.issued = 0
        self.refused = 0

    async def write(self, event: str, **facts: str | int) -> None:
        """Add one record.

        Raises:
            StoreError: it could not be written; what it is about must not happen then.
        """
        cut = {key: fact[:MAX_TEXT] if isinstance(fact, str) else fact for key, fact in facts.items()}
        record = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **cut}
        async with self._turn:
            await asyncio.to_thread(self._log.append, record)
