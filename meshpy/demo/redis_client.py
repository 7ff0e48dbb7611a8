"""A Redis client of the few commands the shop needs, over one kept connection (RESP2)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

__all__ = ["Redis", "RedisError"]


class RedisError(Exception):
    """Redis did not answer, or answered with an error."""


@dataclass(slots=True)
class Redis:
    """One connection, opened when first needed and again after it broke; commands take turns."""

    host: str
    port: int
    _stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def from_address(cls, address: str) -> Redis:
        """Read `host:port`."""
        host, _, port = address.rpartition(":")
        return cls(host, int(port))

    async def command(self, *words: str) -> str | int | None:
        """Send one command and return its simple, integer or bulk answer.

        Raises:
            RedisError: no connection within 3 s, a broken one, or an error answer.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(3):
                    return await self._exchange(words)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self._close()
                raise RedisError(f"redis at {self.host}:{self.port}: {error!r}") from error

    async def _exchange(self, words: tuple[str, ...]) -> str | int | None:
        if self._stream is not None and _has_ended(self._stream[0]):
            self._close()
        if self._stream is None:
            self._stream = await asyncio.open_connection(self.host, self.port)
        reader, writer = self._stream
        parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        writer.write(f"*{len(words)}\r\n{''.join(parts)}".encode())
        line = (await reader.readuntil(b"\r\n")).decode().rstrip()
        kind, rest = line[:1], line[1:]
        if kind == "-":
            raise RedisError(f"redis says {rest}")
        if kind == ":":
            return int(rest)
        if kind == "$":
            if rest == "-1":
                return None
            return (await reader.readexactly(int(rest) + 2))[:-2].decode()
        return rest

    def _close(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
            self._stream = None


def _has_ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closed the connection while it was idle."""
    return reader.at_eof() or reader.exception() is not None
