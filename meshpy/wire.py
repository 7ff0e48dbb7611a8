"""Model values <-> JSON: one printer and one strict parser, driven by the dataclasses themselves.

A dataclass is an object of its fields, those at their default left out. A member of a union carries its
class name under `kind`. Mappings with string keys are objects, sets are sorted lists, enums their value, a
`ServiceName` its text `namespace/name`. Unknown keys are refused. It is the format of `--snapshot FILE.json`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from meshpy.errors import MeshpyError
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot

__all__ = ["WireError", "apply_delta", "decode", "decode_snapshot", "delta", "encode", "version_of"]

T = TypeVar("T")


_ATOMS = frozenset((str, int, float, bool, type(None)))


class WireError(MeshpyError):
    """A document is not of the shape its type says; the message names the path."""


def encode(value: object) -> Any:
    """Print a model value as JSON-ready data."""
    if type(value) in _ATOMS:
        return value
    if isinstance(value, ServiceName):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_dataclass(value)
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, frozenset):
        return list(_printed_set(value))
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    return value


@functools.lru_cache(maxsize=1024)  # each may hold every service's name
def _printed_set(value: frozenset[Any]) -> tuple[Any, ...]:
    """In order; the snapshots of a mesh share most of their sets."""
    return tuple(sorted((encode(item) for item in value), key=str))


def _encode_dataclass(value: Any) -> dict[str, Any]:
    printed: dict[str, Any] = {}
    cls: Any = type(value)
    for name, (hint, default) in _fields(cls).items():
        item = getattr(value, name)
        if default is not dataclasses.MISSING and item == default:
            continue
        printed[name] = _tagged(item, hint)
    return printed


def _tagged(item: Any, hint: Any) -> Any:
    if type(item) in _ATOMS:
        return item
    shape = _shape(hint)
    if isinstance(item, tuple) and shape.is_tuple:
        inner = shape.args
        if shape.is_uniform:
            return [_tagged(part, inner[0]) for part in item]
        return [_tagged(part, part_hint) for part, part_hint in zip(item, inner, strict=True)]
    if len(shape.args) == 2 and isinstance(item, Mapping):
        value_hint = shape.args[1]
        return {str(key): _tagged(part, value_hint) for key, part in sorted(item.items())}
    if len(shape.members) > 1 and type(item) in shape.members:
        return {"kind": type(item).__name__, **_encode_dataclass(item)}
    return encode(item)


class _Shape(NamedTuple):
    """What a type hint says, looked up once: asking `typing` for every value was half of a compilation."""

    is_tuple: bool
    is_uniform: bool
    args: tuple[Any, ...]
    members: tuple[type, ...]


@functools.cache
def _shape(hint: Any) -> _Shape:
    parts = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) in (Union, types.UnionType) and len(parts) == 1:
        return _shape(parts[0])
    args = get_args(hint)
    is_tuple = get_origin(hint) is tuple
    return _Shape(is_tuple, is_tuple and len(args) == 2 and args[1] is Ellipsis, args, _members(hint))


@functools.cache
def _fields(cls: Any) -> dict[str, tuple[Any, Any]]:
    hints = get_type_hints(cls)
    found: dict[str, tuple[Any, Any]] = {}
    for item in dataclasses.fields(cls):
        default = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        found[item.name] = (hints[item.name], default)
    return found


@functools.cache
def _members(hint: Any) -> tuple[type, ...]:
    """The dataclasses of a union, empty when it is not a union of dataclasses."""
    if get_origin(hint) not in (Union, types.UnionType):
        return ()
    return tuple(part for part in get_args(hint) if _is_tagged(part))


def _is_tagged(part: Any) -> bool:
    return isinstance(part, type) and dataclasses.is_dataclass(part) and part is not ServiceName


def decode(cls: type[T], data: Any, path: str = "$") -> T:
    """Read what `encode` printed.

    Raises:
        WireError: a value of the wrong type, an unknown or missing key; the message names its path.
    """
    return typing.cast("T", _decode(cls, data, path))


def _decode(hint: Any, data: Any, path: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _decode_union(hint, data, path)
    if hint is ServiceName:
        return _service_name(data, path)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _decode_dataclass(hint, data, path)
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(data)
        except ValueError:
            raise WireError(f"{path}: {data!r} is none of {', '.join(str(m.value) for m in hint)}") from None
    if origin is tuple:
        return _decode_tuple(get_args(hint), data, path)
    if origin is frozenset:
        return frozenset(
            _decode(get_args(hint)[0], item, f"{path}[{i}]") for i, item in enumerate(_list(data, path))
        )
    if origin is not None and issubclass(origin, Mapping):
        return _decode_mapping(get_args(hint), data, path)
    return _scalar(hint, data, path)


def _decode_union(hint: Any, data: Any, path: str) -> Any:
    args = get_args(hint)
    if data is None and type(None) in args:
        return None
    members = _members(hint)
    if len(members) <= 1:
        rest = [part for part in args if part is not type(None)]
        return _decode(rest[0], data, path)
    if not isinstance(data, dict) or "kind" not in data:
        raise WireError(f"{path}: an object with `kind` is needed ({', '.join(m.__name__ for m in members)})")
    for member in members:
        if member.__name__ == data["kind"]:
            return _decode_dataclass(member, {key: item for key, item in data.items() if key != "kind"}, path)
    raise WireError(f"{path}.kind: {data['kind']!r} is none of {', '.join(m.__name__ for m in members)}")


def _decode_dataclass(cls: type, data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        raise WireError(f"{path}: an object is needed, not {type(data).__name__}")
    known = _fields(cls)
    for key in data:
        if key not in known:
            raise WireError(f"{path}.{key}: unknown key; known are {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, (hint, default) in known.items():
        if name in data:
            values[name] = _decode(hint, data[name], f"{path}.{name}")
        elif default is dataclasses.MISSING:
            raise WireError(f"{path}.{name}: is missing")
    return cls(**values)


def _decode_tuple(args: tuple[Any, ...], data: Any, path: str) -> tuple[Any, ...]:
    items = _list(data, path)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_decode(args[0], item, f"{path}[{i}]") for i, item in enumerate(items))
    if len(items) != len(args):
        raise WireError(f"{path}: {len(args)} items are needed, not {len(items)}")
    return tuple(
        _decode(hint, item, f"{path}[{i}]") for i, (hint, item) in enumerate(zip(args, items, strict=True))
    )


def _decode_mapping(args: tuple[Any, ...], data: Any, path: str) -> dict[Any, Any]:
    if not isinstance(data, dict):
        raise WireError(f"{path}: an object is needed, not {type(data).__name__}")
    return {
        _decode(args[0], key, path): _decode(args[1], item, f"{path}.{key}") for key, item in data.items()
    }


def _service_name(data: Any, path: str) -> ServiceName:
    try:
        return ServiceName.parse(data, default_namespace="")
    except (ValueError, AttributeError):
        raise WireError(f"{path}: {data!r} is no service; write NAMESPACE/NAME") from None


def _list(data: Any, path: str) -> list[Any]:
    if not isinstance(data, list):
        raise WireError(f"{path}: a list is needed, not {type(data).__name__}")
    return data


def _scalar(hint: Any, data: Any, path: str) -> Any:
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, hint) or (isinstance(data, bool) and hint is not bool):
        raise WireError(f"{path}: {hint.__name__} is needed, not {type(data).__name__}")
    return data


def decode_snapshot(data: Any) -> Snapshot:
    """Read a whole snapshot and check its invariant: every cluster that is named exists.

    Raises:
        WireError: as `decode`, and for a route that names an absent cluster.
    """
    snapshot = decode(Snapshot, data)
    named = {port.cluster for port in snapshot.inbound}
    named.update(provider.cluster for provider in snapshot.providers)
    named.update({snapshot.egress_gateway} - {""})
    for listener in snapshot.outbound:
        named.update(item.cluster for item in listener.destinations() if not item.refusal)
    absent = sorted(named - set(snapshot.clusters))
    if absent:
        raise WireError(f"$.clusters: {absent[0]!r} is named by a route and not defined")
    return snapshot


def version_of(printed: Mapping[str, Any]) -> str:
    """A hash of an encoded snapshot's content, and its revision: a new revision alone needs no new hash."""
    content = {key: item for key, item in printed.items() if key not in ("version", "revision")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}-{printed.get('revision', 0)}"


def _resources(printed: Mapping[str, Any]) -> dict[str, Any]:
    """An encoded snapshot cut into the parts that change on their own."""
    parts: dict[str, Any] = {f"clusters/{name}": item for name, item in printed.get("clusters", {}).items()}
    for listener in printed.get("outbound", ()):
        parts[f"outbound/{listener['bind']}/{listener['port']}"] = listener
    parts.update(
        (key, item) for key, item in printed.items() if key not in ("clusters", "outbound", "version")
    )
    return parts


def delta(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """What turns one encoded snapshot into another: `{"base", "version", "set": {…}, "remove": […]}`."""
    before, after = _resources(old or {}), _resources(new)
    return {
        "base": (old or {}).get("version", ""),
        "version": new["version"],
        "set": {key: item for key, item in after.items() if before.get(key) != item},
        "remove": sorted(set(before) - set(after)),
    }


def apply_delta(old: Mapping[str, Any] | None, change: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `delta`.

    Raises:
        WireError: the change was made for another base.
    """
    if change["base"] != (old or {}).get("version", ""):
        raise WireError(
            f"the delta is for {change['base'] or 'nothing'}, held is {(old or {}).get('version', '')}"
        )
    parts = _resources(old or {})
    for key in change["remove"]:
        parts.pop(key, None)
    parts.update(change["set"])
    printed: dict[str, Any] = {"version": change["version"], "clusters": {}, "outbound": []}
    for key, item in sorted(parts.items()):
        section, _, name = key.partition("/")
        if section == "clusters":
            printed["clusters"][name] = item
        elif section == "outbound":
            printed["outbound"].append(item)
        else:
            printed[key] = item
    printed["outbound"].sort(key=lambda listener: (listener["bind"], listener["port"]))
    return printed
