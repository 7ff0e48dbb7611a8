"""The audit log: certificates issued and refused, and what operators changed; on disk before it counts.

Each record carries the SHA-256 of the line before it (`prev`): a line that was changed, taken out or put in
breaks the chain. Who can write the file can also make a new chain, or cut its end: note the head elsewhere
(`meshpy ca status` shows it, logs may be shipped), and both are seen as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from control_plane.append_log import AppendLog, line_of

__all__ = ["Audit", "Chain", "verify"]

log = logging.getLogger(__name__)

MAX_TEXT = 500


class Audit:
    """Records of `{"at", "event", …, "prev"}`, one JSON object a line; JSON escapes control characters.

    A chain that is broken is told and gone on with: the mesh does not stop for it.
    """

    def __init__(self, file: AppendLog) -> None:
        self._log = file
        self.chain = verify(file.path)
        if self.chain.broken_at:
            log.error(
                "%s:%d: the audit log was changed: its chain is broken", file.path, self.chain.broken_at
            )
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
            line = line_of({**record, "prev": self.chain.head})
            await asyncio.to_thread(self._log.append_line, line)
            self.chain = Chain(self.chain.records + 1, _digest(line), self.chain.broken_at)


@dataclass(frozen=True, slots=True)
class Chain:
    """What an audit log's hashes say.

    Args:
        head: the SHA-256 of the last line; empty before the first.
        broken_at: the first line that does not follow from the one before; 0 when all do.
    """

    records: int = 0
    head: str = ""
    broken_at: int = 0


def verify(path: Path) -> Chain:
    """Follow the chain of a file. Lines of a release before it, without `prev`, may begin the file."""
    head, broken, has_begun, number = "", 0, False, 0
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            said = json.loads(line).get("prev")
        except (ValueError, AttributeError, RecursionError):
            said = ""
        has_begun = has_begun or said is not None
        if has_begun and said != head and not broken:
            broken = number
        head = _digest(line)
    return Chain(number, head, broken)


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
