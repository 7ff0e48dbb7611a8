"""Ports that the stack file itself does not show: what was found in env files and images, given as text.

A line each: `8080/http EVIDENCE`. The command finds them (`meshpy.cli.outside_evidence`) and they travel in
the options, so that an injection can be repeated, and undone, where neither file nor image is at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from meshpy.inject.interpolation import substitute
from meshpy.inject.mentions import text_mentions
from meshpy.inject.words import PortWord, parse_ports, text_of

__all__ = ["env_file_lines", "env_files_of", "found_ports", "lines_of_exposed"]


def found_ports(text: str) -> Iterator[tuple[PortWord, str]]:
    """What `found` of the options says of one service."""
    for line in text.splitlines():
        ports, _, evidence = line.partition(" ")
        for word in parse_ports(ports):
            yield word, evidence


def env_files_of(service: Mapping[str, Any]) -> Sequence[str]:
    """The paths of a service's env files, variables at their defaults."""
    value = service.get("env_file")
    items = value if isinstance(value, list) else [value] if value else []
    texts = [text_of(item.get("path") if isinstance(item, dict) else item) for item in items]
    return [substitute(text) or text for text in texts]


def env_file_lines(text: str, path: str, caller: str, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Callee and line of `found` for every address of a service of the stack in an env file.

    Only such addresses leave this function: what else the file holds may be secret.

    Args:
        names: lower-case host name -> service.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        for mention in text_mentions(value.strip("\"'")):
            callee = names.get(mention.host.lower())
            if callee and mention.port:
                protocol = f"/{mention.protocol}" if mention.protocol else ""
                yield callee, f"{mention.port}{protocol} env {name} of {caller} ({path}:{number})"


def lines_of_exposed(exposed: Sequence[str], evidence: str) -> str:
    """`found` of a service whose image exposes these, `8080/tcp` and the like."""
    numbers = [port.removesuffix("/tcp") for port in exposed if port.partition("/")[2] in ("", "tcp")]
    return "\n".join(f"{number} {evidence}" for number in sorted(numbers, key=int))
