"""Captures: the plaintext side of one sidecar, handed on to the administrator who asked for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from control_plane.asks import Asks
from control_plane.errors import RateLimited
from control_plane.streams import Stream
from meshpy.model.names import ServiceName

__all__ = ["Capture", "Captures"]

MAX_OPEN = 4
MAX_WAITING = 2_000
MAX_PACKETS = 1_000


class Capture:
    """One capture. Args: task: of the sidecar; empty takes the first that answers."""

    def __init__(self, number: int, service: ServiceName, task: str) -> None:
        self.number, self.service, self.task = number, service, task
        self.waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)
        self.lost = 0

    def offer(self, packet: dict[str, Any]) -> None:
        if self.waiting.full():
            self.lost += 1
        else:
            self.waiting.put_nowait(packet)


class Captures:
    """All captures that go on."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._open: dict[int, Capture] = {}
        self._number = 0

    def open(self, service: ServiceName, task: str, max_bytes: int, *, is_redacted: bool) -> Capture:
        """Begin one.

        Raises:
            RateLimited: too many go on.
        """
        if len(self._open) >= MAX_OPEN:
            raise RateLimited(10.0)
        self._number += 1
        capture = self._open[self._number] = Capture(self._number, service, task)
        self._ask(capture, max_bytes, is_redacted=is_redacted)
        return capture

    def close(self, capture: Capture) -> None:
        self._open.pop(capture.number, None)
        self._ask(capture, 0, is_redacted=False)

    def _ask(self, capture: Capture, max_bytes: int, *, is_redacted: bool) -> None:
        frame = {
            "type": "capture",
            "id": capture.number,
            "service": str(capture.service),
            "task": capture.task,
        }
        self._asks.ask(json.dumps({**frame, "max_bytes": max_bytes, "redact": is_redacted}))

    def take(self, stream: Stream, message: Mapping[str, Any]) -> None:
        """What a sidecar recorded; of others than the one that was asked, nothing is taken."""
        number = message.get("id")
        capture = self._open.get(number) if isinstance(number, int) else None
        packets = message.get("packets")
        if capture is None or capture.service != stream.service or not isinstance(packets, list):
            return
        capture.task = capture.task or stream.task
        if capture.task != stream.task:
            return
        for item in packets[:MAX_PACKETS]:
            if isinstance(item, dict) and isinstance(item.get("data"), str):
                capture.offer(item)
