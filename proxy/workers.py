"""Several processes that share their listening addresses (SO_REUSEPORT), and a parent that keeps them
together.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from proxy.siblings import Ends

__all__ = ["run_workers"]


def run_workers(count: int, work: Callable[[Ends], int]) -> int:
    """Fork `count` workers, pass signals on, end when they do; the worst exit code.

    One worker's death ends all: the engine then starts the sidecar anew, with every worker in place.
    """
    children: set[int] = set()
    pipes = [os.pipe() for _ in range(count - 1)]
    for number in range(count):
        child = os.fork()
        if child == 0:
            os._exit(work(_ends(number, pipes)))
        children.add(child)
    for descriptor in (each for pipe in pipes for each in pipe):
        os.close(descriptor)

    def pass_on(number: int, _frame: object) -> None:
        for child in children:
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    worst = 0
    while children:
        child, status = os.wait()
        children.discard(child)
        code = os.waitstatus_to_exitcode(status)
        worst = max(worst, abs(code))
        if code != 0:
            pass_on(signal.SIGTERM, None)
    return worst


def _ends(number: int, pipes: list[tuple[int, int]]) -> Ends:
    """What worker `number` keeps of the pipes; the others' ends are closed here."""
    heard = tuple(read for read, _ in pipes) if number == 0 else ()
    told = pipes[number - 1][1] if number else -1
    for descriptor in (each for pipe in pipes for each in pipe):
        if descriptor not in heard and descriptor != told:
            os.close(descriptor)
    return Ends(number, heard, told)
