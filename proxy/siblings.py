"""What workers tell the first of them, which has the page of metrics: every second all that they count."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from meshpy.model.metrics import Family
from proxy.merged import packed, unpacked
from proxy.series import families
from proxy.telemetry import Telemetry

__all__ = ["ALONE", "Ends", "listen", "tell"]

_EVERY_S = 1.0
_SIZE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Ends:
    """One worker's ends of the pipes between them.

    Args:
        number: of the worker; the first, 0, hears all others.
        heard: to read from.
        told: to write to; -1 for the first.
    """

    number: int = 0
    heard: tuple[int, ...] = ()
    told: int = -1


ALONE = Ends()


class _Ear(asyncio.Protocol):
    """Reads pages, each after its length."""

    def __init__(self, take: Callable[[list[Family]], None]) -> None:
        self._take = take
        self._held = bytearray()

    def data_received(self, data: bytes) -> None:
        held = self._held
        held += data
        while len(held) >= _SIZE_BYTES:
            end = _SIZE_BYTES + int.from_bytes(held[:_SIZE_BYTES], "big")
            if len(held) < end:
                return
            self._take(unpacked(bytes(held[_SIZE_BYTES:end])))
            del held[:end]


async def listen(ends: Ends, others: dict[int, list[Family]]) -> None:
    """Keep the last page of each other worker in `others`, until cancelled."""
    loop = asyncio.get_running_loop()
    pipes = []
    for descriptor in ends.heard:

        def ear(descriptor: int = descriptor) -> _Ear:
            return _Ear(lambda page: others.__setitem__(descriptor, page))

        pipe, _ = await loop.connect_read_pipe(ear, os.fdopen(descriptor, "rb", 0))
        pipes.append(pipe)
    try:
        await loop.create_future()
    finally:
        for pipe in pipes:
            pipe.close()


async def tell(ends: Ends, telemetry: Telemetry) -> None:
    """Tell the first worker what is counted here, until cancelled; nothing while it has not read the last."""
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ends.told, "wb", 0))
    try:
        while True:
            await asyncio.sleep(_EVERY_S)
            if not pipe.get_write_buffer_size():
                page = packed(families(telemetry))
                pipe.write(len(page).to_bytes(_SIZE_BYTES, "big") + page)
    finally:
        pipe.abort()
