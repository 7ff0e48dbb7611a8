"""Configs and secrets by content: a name that carries the hash, so that new content is a new object.

Swarm's configs and secrets cannot be changed ("only updates to Labels are allowed"): a stack file whose
nginx.conf was edited cannot be deployed again under the old name. With the hash in the name it can; services
move to the new object as to any new spec, and the old one is there to go back to.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshpy.cli.engine_api import EngineApi, EngineRefused
from meshpy.inject.edit import Editor, find
from meshpy.inject.goyaml import MappingNode
from meshpy.inject.interpolation import interpolate
from meshpy.inject.stackfile import StackFile
from meshpy.inject.words import text_of

__all__ = ["Hashed", "drop_old", "with_hashed_names"]

KINDS = ("configs", "secrets")
DIGITS = 10
LONGEST = 64
HASHED = re.compile(r"-[0-9a-f]{10}")


@dataclass(frozen=True, slots=True)
class Hashed:
    """The text to deploy, and the names that it gave, by kind and key."""

    text: str
    names: Mapping[tuple[str, str], str]


def with_hashed_names(
    text: str, stack: str, folder: Path, env: Mapping[str, str] = os.environ, *, ca_config: str = ""
) -> Hashed:
    """Name every config and secret that comes from a file, and has no name of its own, by its content.

    Args:
        folder: that of the stack file, from which paths are meant.
        ca_config: the name of the config that holds the mesh's roots, when it is not the one in the file.
    """
    parsed = StackFile.parse(text)
    names = {(kind, key): name for kind, key, name in _named(parsed, stack, folder, env)}
    if ca_config and "meshpy-ca" in (parsed.value.get("configs") or {}):
        names["configs", "meshpy-ca"] = ca_config
    editor = Editor.of(parsed.text)
    for (kind, key), name in names.items():
        section = find(parsed.root, kind)
        entry = find(section[1], key) if section else None
        if section is None or entry is None or not isinstance(section[1], MappingNode):
            continue
        if isinstance(entry[1], MappingNode) and editor.is_own(entry[1], entry[0]) and entry[1].value:
            editor.set(entry[1], "name", name)
        else:
            editor.set(section[1], key, {**parsed.value[kind][key], "name": name})
    return Hashed(editor.result() if names else text, names)


def _named(
    parsed: StackFile, stack: str, folder: Path, env: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    for kind in KINDS:
        for key, definition in (parsed.value.get(kind) or {}).items():
            if not isinstance(definition, dict) or definition.get("external") or definition.get("name"):
                continue
            file = folder / interpolate(text_of(definition.get("file")), env)
            if definition.get("file") and file.is_file():  # docker says best what is wrong with others
                digest = hashlib.sha256(file.read_bytes()).hexdigest()[:DIGITS]
                yield kind, key, f"{f'{stack}_{key}'[: LONGEST - DIGITS - 1]}-{digest}"


def drop_old(engine: EngineApi, stack: str, hashed: Hashed) -> None:
    """Remove what earlier contents left, except what a service, or its way back, still uses."""
    kept = set(hashed.names.values())
    services = engine.of_stack("services", stack)
    for service in services:
        for spec in (service["Spec"], service.get("PreviousSpec") or {}):
            kept |= set(_used(spec))
    for kind, key in hashed.names:
        stem = f"{stack}_{key}"[: LONGEST - DIGITS - 1]
        for each in engine.of_stack(kind, stack):
            name = each["Spec"]["Name"]
            if name.startswith(stem) and HASHED.fullmatch(name[len(stem) :]) and name not in kept:
                try:
                    engine.delete(f"/{kind}/{each['ID']}")
                except EngineRefused:  # a task of another spec still uses it; the next deploy tries again
                    continue


def _used(spec: Mapping[str, Any]) -> Iterator[str]:
    container = (spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}
    yield from (each["ConfigName"] for each in container.get("Configs") or ())
    yield from (each["SecretName"] for each in container.get("Secrets") or ())
