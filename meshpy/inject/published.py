"""Published ports in every form docker takes (go-connections nat.ParsePortSpec, cli/compose/loader)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshpy.inject.interpolation import has_variable, substitute
from meshpy.inject.words import text_of

__all__ = ["Published", "read_port", "shadowed"]

SHORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:]+\]|\d+(?:\.\d+){3}):)?(?:(?P<outside>\d+(?:-\d+)?|):)?"
    r"(?P<inside>\d+(?:-\d+)?)(?:/(?P<protocol>tcp|udp|sctp))?",
    re.IGNORECASE,
)
SPLIT = re.compile(r"(?:\$\{[^}]*\}|[^:])+")


@dataclass(frozen=True, slots=True)
class Published:
    """One published port.

    Args:
        target: the app's port; `target_text` is what the file writes, with its variable.
        published: what the file writes for the outside, "" for one that docker picks.
        host_ip: an address docker stack ignores (it publishes on all), as written.
    """

    target: int
    target_text: str
    published: str
    protocol: str = "tcp"
    mode: str = "ingress"
    host_ip: str = ""

    def in_host_mode(self) -> Mapping[str, Any]:
        """The long form with `mode: host`."""
        value: dict[str, Any] = {"target": _number(self.target_text)}
        if self.published:
            value["published"] = _number(self.published)
        return {**value, "protocol": self.protocol, "mode": "host"}


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def read_port(entry: Any) -> Sequence[Published]:
    """The ports of one entry of `ports`.

    Raises:
        ValueError: it is no port, or its target is a variable without a default.
    """
    if isinstance(entry, dict):
        return [_long(entry)]
    text = text_of(entry)
    plain = substitute(text)
    if plain is None:
        plain = _with_unknown_outside(text)
    match = SHORT.fullmatch(plain)
    if not match:
        raise ValueError(f"{text!r} is no port: write it as 8080:80")
    inside, outside = _range(match["inside"]), _range(match["outside"] or "")
    if outside and len(outside) != len(inside) and len(inside) > 1:
        raise ValueError(f"the two ranges of {text!r} have different lengths")
    protocol, ip = (match["protocol"] or "tcp").lower(), match["ip"] or ""
    if len(inside) == 1:
        target_text, published = _as_written(text, str(inside[0]), match["outside"] or "")
        return [Published(inside[0], target_text, published, protocol, host_ip=ip)]
    outs = [str(port) for port in outside] or [""] * len(inside)
    return [
        Published(port, str(port), out, protocol, host_ip=ip) for port, out in zip(inside, outs, strict=True)
    ]


def shadowed(ports: Sequence[Published], all_in_host_mode: bool) -> list[str]:
    """What engines leave out without a word: of several host ports for one target they open the last."""
    targets: dict[tuple[int, str], list[str]] = {}
    for port in ports:
        if all_in_host_mode or port.mode == "host":
            targets.setdefault((port.target, port.protocol), []).append(port.published or "any")
    return [
        f"of its ports {', '.join(outside)} to {target} in host mode engines open {outside[-1]} alone"
        for (target, _), outside in targets.items()
        if len(outside) > 1
    ]


def _long(entry: Mapping[str, Any]) -> Published:
    target = text_of(entry.get("target"))
    plain = substitute(target)
    if plain is None:
        raise ValueError(f"the target {target!r} has no default")
    if not plain.isdecimal() or not 0 < int(plain) < 65536:
        raise ValueError(f"{target!r} is no target port")
    mode = text_of(entry.get("mode")) or "ingress"
    protocol = (text_of(entry.get("protocol")) or "tcp").lower()
    return Published(int(plain), target, text_of(entry.get("published")), protocol, mode)


def _with_unknown_outside(text: str) -> str:
    """`${OUT}:80`: which port it is outside does not matter here."""
    parts = SPLIT.findall(text)
    inside = substitute(parts[-1])
    if inside is None:
        raise ValueError(f"which port {text!r} leads to depends on a variable without a default")
    return f"1:{inside}" if len(parts) > 1 else inside


def _as_written(text: str, target: str, published: str) -> tuple[str, str]:
    if not has_variable(text):
        return target, published
    parts = SPLIT.findall(text)
    inside = re.sub(r"/(?:tcp|udp|sctp)$", "", parts[-1])
    return inside, parts[-2] if len(parts) > 1 else ""


def _range(text: str) -> list[int]:
    if not text:
        return []
    first, _, last = text.partition("-")
    low, high = int(first), int(last or first)
    if not 0 < low <= high < 65536:
        raise ValueError(f"{text!r} is no port")
    return list(range(low, high + 1))
