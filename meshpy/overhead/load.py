"""Requests at a fixed rate, whatever became of those before."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

__all__ = ["Slice", "Target", "quantile_ms", "run_slice"]

LATE_S = 0.5
"""A request that could not even be begun by then was not sent on time: this machine is the bottleneck."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked, and how often."""

    url: str
    rate: float
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    timeout_s: float = 10.0
    connections: int = 64


@dataclass(slots=True)
class Slice:
    """What became of one run.

    Args:
        took_ms: of every answered request, from when it was due to the last byte, in no order.
        answers: status, or the kind of error, → how often.
        late: requests that this machine began more than LATE_S after they were due.
    """

    took_ms: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    late: int = 0

    @property
    def failed(self) -> int:
        """Requests without an answer, and answers of 500 and above."""
        return sum(count for answer, count in self.answers.items() if not answer.isdigit() or answer >= "500")

    def add(self, other: Slice) -> None:
        self.took_ms += other.took_ms
        self.answers.update(other.answers)
        self.late += other.late


def quantile_ms(took_ms: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the times lie; nan when nothing was answered."""
    if not took_ms:
        return float("nan")
    ordered = sorted(took_ms)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def run_slice(target: Target, seconds: float) -> Slice:
    """Send for so long, wait for the last answers, and count.

    A connection per request in flight, kept alive; redirects are answers like others.
    """
    found = Slice()
    connector = aiohttp.TCPConnector(limit=target.connections, ttl_dns_cache=300)
    timeout = aiohttp.ClientTimeout(total=target.timeout_s)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for turn in range(max(1, round(target.rate * seconds))):
                due = begin + turn / target.rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(_one(session, target, due, found))
    return found


async def _one(session: aiohttp.ClientSession, target: Target, due: float, found: Slice) -> None:
    found.late += time.perf_counter() - due > LATE_S
    try:
        async with session.request(
            target.method,
            target.url,
            headers=target.headers,
            data=target.body or None,
            allow_redirects=False,
        ) as answer:
            await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        found.answers[type(error).__name__] += 1
        return
    found.answers[str(answer.status)] += 1
    found.took_ms.append((time.perf_counter() - due) * 1000)
