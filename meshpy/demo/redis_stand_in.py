"""What the shop asks of Redis, for machines that have none: PING, INCR, RPUSH, LLEN (RESP2), kept in memory.

Run as `python -m meshpy.demo.redis_stand_in HOST PORT`; `meshpy demo` takes redis-server where it is there.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["StandIn", "main"]

MAX_WORDS = 16


@dataclass(slots=True)
class StandIn:
    """Counters and lists by name."""

    counts: dict[str, int] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)

    def answer(self, words: Sequence[str]) -> str:
        """The reply to one command, as it goes over the wire."""
        match [words[0].upper(), *words[1:]]:
            case ["PING"]:
                return "+PONG\r\n"
            case ["INCR", key]:
                self.counts[key] = self.counts.get(key, 0) + 1
                return f":{self.counts[key]}\r\n"
            case ["RPUSH", key, *values] if values:
                self.lists.setdefault(key, []).extend(values)
                return f":{len(self.lists[key])}\r\n"
            case ["LLEN", key]:
                return f":{len(self.lists.get(key, ()))}\r\n"
        return f"-ERR {words[0][:64]!r} is not known to the demo's stand-in; install redis-server\r\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the commands of one connection until it ends or is no RESP."""
        try:
            while words := await _command(reader):
                writer.write(self.answer(words).encode())
                await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()


async def _command(reader: asyncio.StreamReader) -> list[str]:
    line = await reader.readuntil(b"\r\n")
    if not line.startswith(b"*"):  # an inline command, as a person types it
        return line.decode().split() or ["?"]
    count, words = int(line[1:]), []
    if not 0 < count <= MAX_WORDS:
        raise ValueError(count)
    for _ in range(count):
        length = int((await reader.readuntil(b"\r\n"))[1:])
        if not 0 <= length <= 1 << 16:
            raise ValueError(length)
        words.append((await reader.readexactly(length + 2))[:-2].decode())
    return words


async def _run(host: str, port: int) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with await asyncio.start_server(StandIn().serve, host, port):
        await stop.wait()


def main() -> None:
    """Serve until SIGTERM."""
    asyncio.run(_run(sys.argv[1], int(sys.argv[2])))


if __name__ == "__main__":
    main()
