"""Classes of requests in the words of the policies that draw them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from meshpy.analysis.partition import Partition
from meshpy.analysis.space import Space, Value

__all__ = ["described", "merged"]

Fixed = Mapping[str, int]
Box = dict[str, frozenset[int]]
"""Values of dimensions, by number; a dimension that is not there may have any."""


def merged(cells: Iterable[Fixed]) -> list[Box]:
    """Fewer, larger classes with the same requests: those that differ in one dimension become one."""
    boxes: list[Box] = [{name: frozenset({number}) for name, number in cell.items()} for cell in cells]
    while True:
        before = len(boxes)
        for name in sorted({name for box in boxes for name in box}):
            boxes = _merged_along(name, boxes)
        if len(boxes) == before:
            return boxes


def _merged_along(name: str, boxes: Sequence[Box]) -> list[Box]:
    groups: dict[tuple[object, ...], list[Box]] = {}
    for box in boxes:
        rest = frozenset((key, value) for key, value in box.items() if key != name)
        groups.setdefault((rest, name in box), []).append(box)
    found: list[Box] = []
    for members in groups.values():
        if name not in members[0]:
            found += members[:1]
            continue
        union = frozenset().union(*(box[name] for box in members))
        found.append({**members[0], name: union})
    return found


def described(space: Space, box: Box) -> dict[str, str]:
    """`path` → `/admin* except /admin/health`; dimensions in which all values are meant are left out."""
    words: dict[str, str] = {}
    for name, numbers in sorted(box.items(), key=lambda item: _ORDER.get(item[0], 9)):
        dimension = space.dimensions[name]
        values = [dimension.values[number] for number in sorted(numbers)]
        if len(values) == len(dimension.values):
            continue
        if name.startswith(("header:", "jwt:")):
            words[name] = " | ".join(dict.fromkeys(_list(dimension.partition, value) for value in values))
            continue
        if name == "identity":
            words["token"] = " | ".join(_token(value) for value in values)
            continue
        universe = frozenset().union(*(value.atoms for value in dimension.values))
        atoms = frozenset().union(*(value.atoms for value in values))
        told = [_texts(dimension.partition, universe, atoms)] if atoms else []
        words[name] = " | ".join(["absent"] * any(value.shown is None for value in values) + told)
    return words


_ORDER = {"method": 0, "path": 1, "authority": 2}


def _token(value: Value) -> str:
    match value.shown:
        case (issuer, subject):
            return f"of {issuer}/{subject}"
        case (issuer,):
            return f"of {issuer} without a subject"
        case _:
            return "none"


def _list(partition: Partition, value: Value) -> str:
    if value.shown is None:
        return "absent"
    universe = frozenset(range(len(partition.atoms)))
    return " and ".join(_texts(partition, universe, frozenset({atom})) for atom in sorted(value.atoms))


def _texts(partition: Partition, universe: frozenset[int], atoms: frozenset[int]) -> str:
    """A union of cells as matchers, with what must be left out of them."""
    if atoms == universe:
        return "any"
    masks = [(m.label, partition.mask(i) & universe) for i, m in enumerate(partition.matchers)]
    terms, rest = _cover(masks, atoms)
    while rest:
        first = min(rest)
        holders = [item for item in masks if first in item[1]]
        label, mask = min(holders, key=lambda item: len(item[1]), default=("any", universe))
        excluded, open_ = _cover(masks, mask - atoms)
        if open_:
            terms.append(f"{label} such as {partition.atoms[first].witness!r}")
            rest -= {first}
        else:
            terms.append(f"{label} except {' | '.join(excluded)}")
            rest -= mask & atoms
    return " | ".join(terms)


def _cover(
    masks: Sequence[tuple[str, frozenset[int]]], atoms: frozenset[int]
) -> tuple[list[str], frozenset[int]]:
    """Matchers that make up the cells, the widest first, and the cells that are left."""
    terms: list[str] = []
    rest = atoms
    for label, mask in sorted(masks, key=lambda item: -len(item[1])):
        if mask & rest and mask <= atoms:
            terms.append(label)
            rest -= mask
    return terms, rest
