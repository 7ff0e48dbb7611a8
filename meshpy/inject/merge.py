"""Several stack files as one, merged as `docker stack deploy -c one -c two` merges them.

Source: docker/cli, cli/compose/loader/merge.go, and what its CLI 28 prints. Its odd corners are kept: lists
are appended, a healthcheck's test among them; `false` and empty values override nothing; of a network that
two files define the later definition counts alone; of ports without a published one the last counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshpy.errors import DocumentError, Place, Problem
from meshpy.inject import emit
from meshpy.inject.published import SPLIT, read_port
from meshpy.inject.stackfile import StackFile
from meshpy.inject.words import pairs, text_of

__all__ = ["Merged", "merge_files"]

Value = Mapping[str, Any]
SECTIONS = ("volumes", "networks", "secrets", "configs")
MAPPINGS = ("environment", "labels", "sysctls", "args", "options")
REPLACED = ("command", "entrypoint")
NUMBERS = ("replicas", "parallelism", "max_attempts", "retries")
"""A zero in these overrides; docker knows it from no value."""
NO_VERSION = "3.13"


@dataclass(frozen=True, slots=True)
class Merged:
    """One stack file made of several.

    Args:
        text: the whole; its comments are gone, `${…}` is as it was written.
    """

    text: str
    name: str
    sources: tuple[StackFile, ...]

    def placed(self, error: DocumentError) -> DocumentError:
        """The same problems at the places where their keys stand in the files that the user wrote."""
        return DocumentError(sorted({self._placed(problem) for problem in error.problems}))

    def _placed(self, problem: Problem) -> Problem:
        path = _path(problem.place.key)
        for source in reversed(self.sources):
            depth = next((d for d in range(len(path), 1, -1) if source.get(path[:d]) is not None), 0)
            if depth >= min(2, len(path)) and depth:
                found = source.place(path[:depth])
                place = Place(found.file, found.line, found.column, problem.place.key)
                return Problem(place, problem.what, problem.instead)
        return problem


def _path(key: str) -> list[str | int]:
    parts = re.findall(r"\[(\d+)\]|([^.\[\]]+)", key)
    return [int(number) if number else name for number, name in parts]


def merge_files(files: Sequence[tuple[str, str]]) -> Merged:
    """Merge (name, text) of each file, the first one first.

    Raises:
        DocumentError: one of them cannot be read, or they cannot be merged.
    """
    sources = tuple(StackFile.parse(text, name) for name, text in files)
    versions = [text_of(source.value.get("version")) or NO_VERSION for source in sources]
    for source, version in zip(sources, versions, strict=True):
        if version != versions[0]:
            what = (
                f"version {version}, where {sources[0].file} has {versions[0]}: docker merges equal ones only"
            )
            raise DocumentError(
                [source.problem(("version",), what, "write the same `version:` in all files")]
            )
    value: dict[str, Any] = dict(sources[0].value)
    for source in sources[1:]:
        value = _merge_roots(value, source)
    lines = [line for key, part in value.items() for line in emit.block(key, part, 0)]
    return Merged("\n".join(lines) + "\n", " + ".join(source.file for source in sources), sources)


def _merge_roots(base: Value, source: StackFile) -> dict[str, Any]:
    found, more = dict(base), source.value
    for section in SECTIONS:
        if more.get(section):
            found[section] = {**(base.get(section) or {}), **more[section]}
    services: dict[str, Any] = dict(base.get("services") or {})
    for name, service in (more.get("services") or {}).items():
        known = services.get(name)
        _refuse_hidden_env_file(source, name, known or {}, service or {})
        services[name] = _merge_service(known, service or {}) if known else service
    found["services"] = services
    if isinstance(more.get("x-mesh"), dict):  # ours: docker drops root extensions of all but the first file
        found["x-mesh"] = _merge(base.get("x-mesh") or {}, more["x-mesh"])
    return {**{key: part for key, part in more.items() if key.startswith("x-")}, **found}


def _refuse_hidden_env_file(source: StackFile, name: str, base: Value, more: Value) -> None:
    """docker reads env_file before it merges, so a later env_file beats an earlier `environment`."""
    if more.get("env_file") and base.get("environment"):
        what = f"the env_file would come before the `environment` of `{name}` in the file before"
        path = ("services", name, "env_file")
        raise DocumentError([source.problem(path, what, "write what it sets under `environment`")])


def _merge_service(base: Value, more: Value) -> dict[str, Any]:
    found = _merge(base, more)
    for key, name_of in KEYED.items():
        if base.get(key) or more.get(key):
            found[key] = _keyed(name_of, base.get(key) or (), more.get(key) or ())
    if base.get("networks") and more.get("networks"):
        found["networks"] = {**_networks(base["networks"]), **_networks(more["networks"])}
    one, two = base.get("logging") or {}, more.get("logging") or {}
    if one.get("driver") and two.get("driver") and one["driver"] != two["driver"]:
        found["logging"] = two
    if isinstance(base.get("ulimits"), dict) and isinstance(more.get("ulimits"), dict):
        found["ulimits"] = {**base["ulimits"], **more["ulimits"]}
    return found


def _merge(base: Value, more: Value) -> dict[str, Any]:
    found = dict(base)
    for key, value in more.items():
        before = base.get(key)
        if key in MAPPINGS and before is not None and value is not None:
            found[key] = {**_mapping(before), **_mapping(value)}
        elif isinstance(before, dict) and isinstance(value, dict):
            found[key] = _merge(before, value)
        elif key not in REPLACED and (isinstance(before, list) or isinstance(value, list)) and before:
            found[key] = [*_listed(key, before), *_listed(key, value)]
        elif before is None or _overrides(key, value):
            found[key] = value
    return found


def _overrides(key: str, value: Any) -> bool:
    if value == 0 and not isinstance(value, bool):
        return key in NUMBERS
    return bool(value)


def _listed(key: str, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if value is None:
        return []
    return ["CMD-SHELL", value] if key == "test" else [value]


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return dict(value)
    stated = {text_of(item).partition("=")[0]: "=" in text_of(item) for item in value}
    return {name: text if stated[name] else None for name, text, _ in pairs(value)}


def _networks(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {text_of(key): None for key in value}


def _keyed(name_of: Callable[[Any], Iterable[str]], base: Sequence[Any], more: Sequence[Any]) -> list[Any]:
    """Items by what tells them apart; a later one takes the place of an earlier one."""
    found: dict[tuple[str, ...], Any] = {}
    for item in (*base, *more):
        names = tuple(name_of(item))
        for known in [each for each in found if set(each) & set(names)]:
            del found[known]
        found[names] = item
    return list(found.values())


def _source(item: Any) -> tuple[str, ...]:
    return (text_of(item.get("source") if isinstance(item, dict) else item),)


def _target(item: Any) -> tuple[str, ...]:
    if isinstance(item, dict):
        return (text_of(item.get("target")),)
    parts = SPLIT.findall(text_of(item))
    return (parts[1] if len(parts) > 1 else parts[0],)


def _published(item: Any) -> tuple[str, ...]:
    try:
        return tuple(port.published or "0" for port in read_port(item))
    except ValueError:
        return (text_of(item),)


KEYED: Mapping[str, Callable[[Any], Iterable[str]]] = {
    "ports": _published,
    "volumes": _target,
    "secrets": _source,
    "configs": _source,
}
