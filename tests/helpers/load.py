"""A load of a fixed rate whose every request is accounted for: what was sent, answered, failed, and why."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.helpers.sidecars import Answer, Client

RPS = int(os.environ.get("MESHPY_FAULT_RPS", "150"))
SECONDS = float(os.environ.get("MESHPY_FAULT_SECONDS", "1.5"))
"""Longer and harder: `MESHPY_FAULT_RPS=500 MESHPY_FAULT_SECONDS=30 pytest -s` with the file of the faults."""

LONGEST_S = 10.0


@dataclass
class Account:
    """What became of a load.

    Args:
        refused: by method, what was answered with 5xx.
        refused_paths: of those.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    refused_paths: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return sum(self.outcomes.values())

    def __str__(self) -> str:
        return f"{self.sent} sent: " + ", ".join(
            f"{count} {what}" for what, count in sorted(self.outcomes.items())
        )


@dataclass(frozen=True)
class Ask:
    """One request; `number` is its own among all."""

    number: int

    @property
    def method(self) -> str:
        return "POST" if self.number % 3 == 0 else "GET"

    @property
    def path(self) -> str:
        return f"/{self.method}/{self.number}"


async def load(
    port: int,
    *,
    rps: int = RPS,
    seconds: float = SECONDS,
    during: Callable | None = None,
    half_closing: bool = False,
) -> Account:
    """Send GETs, and a POST for every third, each on time whatever became of those before.

    Args:
        during: awaited beside the load.
        half_closing: each comes on a connection of its own, whose sending side ends with the request.
    """
    account, idle = Account(), []
    beside = asyncio.get_running_loop().create_task(during()) if during is not None else None
    began = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rps * seconds)):
            group.create_task(_one(port, Ask(number), account, idle, half_closing=half_closing))
            await asyncio.sleep(max(0.0, began + (number + 1) / rps - asyncio.get_running_loop().time()))
    if beside is not None:
        await beside
    for client in idle:
        client.writer.close()
    return account


async def _one(port: int, ask: Ask, account: Account, idle: list[Client], *, half_closing: bool) -> None:
    try:
        async with asyncio.timeout(LONGEST_S):
            client = idle.pop() if idle else await Client.connect(port)
            body = b"x" * 200 if ask.method == "POST" else b""
            await client.ask(ask.path, ask.method, body)
            if half_closing:
                client.writer.write_eof()
            answer = await client.answer(ask.method)
    except asyncio.IncompleteReadError as error:
        account.outcomes["broken message" if error.partial or error.expected else "connection closed"] += 1
    except ValueError:
        account.outcomes["broken message"] += 1  # a chunked body without its end
    except TimeoutError:
        account.outcomes["no answer"] += 1
    except OSError as error:
        account.outcomes[type(error).__name__] += 1
    else:
        account.outcomes[str(answer.status)] += 1
        account.answers.append(answer)
        if answer.status >= 500:
            account.refused[ask.method] += 1
            account.refused_paths.append(ask.path)
        if half_closing or answer.headers.get("connection") == "close":
            client.writer.close()
        else:
            idle.append(client)
        return
    if "client" in locals():
        client.writer.close()
