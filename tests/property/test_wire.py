"""Every value of every type a snapshot can hold survives its journey to a sidecar."""

import dataclasses
import json
import typing
from collections.abc import Iterator
from enum import Enum
from types import UnionType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot
from meshpy.wire import decode, encode

LABEL = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
DEEP = 2
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


def parts(hint: object, seen: set[type]) -> Iterator[type]:
    """The dataclasses that a type is made of, itself included, each once."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if hint in seen or hint is ServiceName:
            return
        seen.add(hint)
        yield hint
        for inner in typing.get_type_hints(hint).values():
            yield from parts(inner, seen)
    for inner in typing.get_args(hint):
        yield from parts(inner, seen)


def values(hint: object, depth: int = 0) -> st.SearchStrategy[object]:
    """Values of a type; collections grow smaller the deeper they stand, so types in themselves end."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    few = max(0, 3 - depth)
    if hint is ServiceName:
        return st.builds(ServiceName, LABEL, LABEL)
    if origin in (typing.Union, UnionType):
        return st.one_of(*(values(part, depth) for part in args[: 1 if depth > DEEP else None]))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{field: values(inner, depth + 1) for field, inner in hints.items()})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values(args[0], depth), max_size=few).map(tuple)
    if origin is tuple:
        return st.tuples(*(values(part, depth) for part in args))
    if origin is frozenset:
        return st.frozensets(values(args[0], depth), max_size=few)
    if args:
        return st.dictionaries(values(args[0], depth), values(args[1], depth), max_size=few)
    return NUMBER if hint is float else st.from_type(hint)


@pytest.mark.parametrize("part", list(parts(Snapshot, set())), ids=lambda part: part.__name__)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_encoded_is_decoded_as_it_was(part: type, data: st.DataObject):
    """encode → JSON text → decode is the identity, for each type by itself."""
    value = data.draw(values(part))
    assert decode(part, json.loads(json.dumps(encode(value)))) == value
