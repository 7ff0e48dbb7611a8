"""Aliases and pod networks of one caller: the names of everything it may call, each on the right network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meshpy.inject.evidence import PortFact
from meshpy.model.endpoint import Protocol

__all__ = ["BUDGET_BYTES", "Callee", "TooManyNames", "share_out"]

BUDGET_BYTES = 900
"""A gossip record must fit one UDP packet of 1,400 bytes; an alias costs its length and 2 (SWARM: DNS)."""

MAX_NETWORKS = 8
"""A task on many networks starts slowly: 40 of them cost 24 s (SWARM: limits)."""


class TooManyNames(Exception):  # noqa: N818 - it says what is wrong
    """The names of all callees do not fit the networks a caller may have."""


@dataclass(frozen=True, slots=True)
class Callee:
    """One destination (or the services behind one logical host).

    Args:
        key: of the first service; sorts the callees and names the bind.
        names: those every file can count on; `more` are Swarm's longer forms, dropped when space is short.
    """

    key: str
    names: tuple[str, ...]
    more: tuple[str, ...] = ()
    ports: tuple[PortFact, ...] = ()


@dataclass(slots=True)
class _Room:
    names: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    kinds: dict[int, str] = field(default_factory=dict)
    size: int = 0

    def fits(self, callee: Callee) -> bool:
        for port in callee.ports:
            kind = _kind(port.protocol)
            if port.number in self.kinds and (kind == "tcp" or self.kinds[port.number] != kind):
                return False
        return True

    def take(self, callee: Callee, names: Sequence[str]) -> None:
        self.names += names
        self.size += sum(len(name) + 2 for name in names)
        self.keys.append(callee.key)
        self.kinds.update({port.number: _kind(port.protocol) for port in callee.ports})


def _kind(protocol: Protocol) -> str:
    """What can share a listener: HTTP tells hosts apart by authority, TLS by SNI."""
    if protocol is Protocol.HTTP:
        return "http"
    return str(protocol)


def share_out(callees: Sequence[Callee]) -> tuple[list[tuple[list[str], list[str]]], bool]:
    """Spread callees over as few networks as possible, the main one first: aliases, callee keys.

    Returns:
        also whether Swarm's longer names had to be left out.

    Raises:
        TooManyNames: they do not fit.
    """
    full = _spread(callees, longer=True, budget=BUDGET_BYTES)
    by_ports = _spread(callees, longer=True, budget=1 << 30)
    if len(full) == len(by_ports):
        return full, False
    short = _spread(callees, longer=False, budget=BUDGET_BYTES)
    if len(short) > MAX_NETWORKS:
        size = sum(len(name) + 2 for callee in callees for name in callee.names)
        raise TooManyNames(f"{size} bytes of names on {len(short)} networks")
    return short, True


def _spread(callees: Sequence[Callee], *, longer: bool, budget: int) -> list[tuple[list[str], list[str]]]:
    rooms = [_Room()]
    for callee in callees:
        names = [*callee.names, *(callee.more if longer else ())]
        size = sum(len(name) + 2 for name in names)
        for room in rooms:
            if room.fits(callee) and (room.size + size <= budget or not room.names):
                break
        else:
            room = _Room()
            rooms.append(room)
        room.take(callee, names)
    return [(_unique(room.names), room.keys) for room in rooms]


def _unique(names: Sequence[str]) -> list[str]:
    found: Mapping[str, str] = {name.lower(): name for name in reversed(names)}
    return sorted(found.values())
