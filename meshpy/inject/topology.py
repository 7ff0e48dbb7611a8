"""Who could reach whom before injection, and by which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshpy.inject.interpolation import substitute
from meshpy.inject.stackfile import StackFile
from meshpy.inject.words import text_of

__all__ = ["Attachment", "Network", "attachments_of", "networks_of"]


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the file.

    Args:
        key: its name in the file; `full` is the engine's name of it.
        external: made outside of this stack, so others may sit on it.
        driver: `overlay` unless the file says otherwise.
    """

    key: str
    full: str
    external: bool = False
    driver: str = "overlay"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A service's seat on a network, with the aliases it has there."""

    network: Network
    aliases: tuple[str, ...] = ()


def networks_of(stack: StackFile, stack_name: str) -> dict[str, Network]:
    """All networks of the file, and `default`, which every stack has."""
    found = {"default": Network("default", f"{stack_name}_default")}
    for key, definition in (stack.value.get("networks") or {}).items():
        found[key] = _network(key, definition or {}, stack_name)
    return found


def _network(key: str, definition: Mapping[str, Any], stack_name: str) -> Network:
    outside = definition.get("external")
    name = text_of(definition.get("name"))
    if isinstance(outside, dict):
        name = text_of(outside.get("name")) or name
    external = bool(outside) or isinstance(outside, dict)
    name = substitute(name) or name
    full = name or (key if external else f"{stack_name}_{key}")
    return Network(key, full, external, text_of(definition.get("driver")) or "overlay")


def attachments_of(service: Mapping[str, Any], networks: Mapping[str, Network]) -> tuple[Attachment, ...]:
    """Where a service sits; without `networks` that is `default`.

    Raises:
        KeyError: a network that the file does not define; its argument is the name.
    """
    value = service.get("networks")
    if not value:
        return (Attachment(networks["default"]),)
    if isinstance(value, list):
        return tuple(Attachment(networks[text_of(key)]) for key in value)
    return tuple(
        Attachment(networks[key], tuple(text_of(alias) for alias in (item or {}).get("aliases") or ()))
        for key, item in value.items()
    )
