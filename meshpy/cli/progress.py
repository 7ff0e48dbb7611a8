"""How a wait looks: one line that changes on a terminal, a line per service that is done in a pipe."""

from __future__ import annotations

import itertools
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import click

__all__ = ["Progress", "counting", "waiting"]

WHEEL = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


_FIRST_S, _EVERY_S = 2.0, 1.0


def counting() -> Callable[[int, int], None]:
    """What an exact comparison that takes long tells on a terminal: flows and classes so far."""
    due = time.monotonic() + _FIRST_S

    def tell(flows: int, classes: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due and sys.stderr.isatty():
            due = now + _EVERY_S
            click.echo(f"\r\033[Kcompared {flows} flows, {classes:,} classes …\r", nl=False, err=True)

    return tell


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal what a command is busy with, until it is done; standard output stays clean."""
    is_shown = sys.stderr.isatty()
    if is_shown:
        click.echo(f"{what}…", nl=False, err=True)
    try:
        yield
    finally:
        if is_shown:
            click.echo("\r\033[K", nl=False, err=True)


@dataclass(slots=True)
class Progress:
    """Tells a person, on standard error, what runs and what is waited for."""

    is_silent: bool = False
    _told: set[str] = field(default_factory=set)
    _wheel: Iterator[str] = field(default_factory=lambda: itertools.cycle(WHEEL))

    def say(self, text: str) -> None:
        """One line that stays."""
        if not self.is_silent:
            self._clear()
            click.echo(text, err=True)

    def show(self, standings: Mapping[str, str], waiting: Collection[str]) -> None:
        """How all services stand; those that are done since the last look get a line."""
        if self.is_silent:
            return
        for name, standing in sorted(standings.items()):
            if name in waiting:
                self._told.discard(name)
            elif name not in self._told:
                self._told.add(name)
                self.say(f"  √ {name} {standing}")
        if waiting and sys.stderr.isatty():
            first = ", ".join(f"{name} {standings[name]}" for name in sorted(waiting))
            line = (
                f"  {next(self._wheel)} {len(standings) - len(waiting)}/{len(standings)}  waiting for {first}"
            )
            click.echo(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}", nl=False, err=True)
        elif not waiting:
            self._clear()

    def _clear(self) -> None:
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)
