"""Locality: which endpoints are near, and how much of the load stays with them as they fail.

Source: Istio `localityLbSetting`; Envoy's priority levels with an overprovisioning factor of 1.4: as long as
five of seven near endpoints are healthy nothing leaves, below that the rest spills to the next level.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshpy.model.resilience import Locality

__all__ = ["loads_of", "ranks_of", "share_of"]

_OVERPROVISIONING_PCT = 140.0
_LABELS = (
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
)
_NODE = "kubernetes.io/hostname"


def _parts(locality: str) -> list[str]:
    return [*locality.split("/"), "", ""][:3]


def ranks_of(setting: Locality, own: tuple[str, str], others: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    """How far each endpoint is, 0 the nearest that there is, without gaps.

    Args:
        own: locality and node of the caller; an empty locality makes all the same.
        others: those of the endpoints.
    """
    if not own[0]:
        return (0,) * len(others)
    if setting.priority:
        ranks = [_by_labels(setting.priority, own, other) for other in others]
    else:
        ranks = [_by_place(dict(setting.failover), _parts(own[0]), _parts(other[0])) for other in others]
    order = {rank: place for place, rank in enumerate(sorted(set(ranks)))}
    return tuple(order[rank] for rank in ranks)


def _by_place(failover: dict[str, str], own: list[str], other: list[str]) -> int:
    same = next((at for at, (mine, its) in enumerate(zip(own, other, strict=True)) if mine != its), 3)
    if same or own[0] not in failover:
        return 3 - same
    return 3 if failover[own[0]] == other[0] else 4


def _by_labels(priority: tuple[str, ...], own: tuple[str, str], other: tuple[str, str]) -> int:
    mine, its = _labels(own), _labels(other)
    for at, text in enumerate(priority):
        key, is_given, value = text.partition("=")
        if its[key] != (value if is_given else mine[key]):
            return len(priority) - at
    return 0


def _labels(place: tuple[str, str]) -> dict[str, str]:
    return {**dict(zip(_LABELS, _parts(place[0]), strict=True)), _NODE: place[1]}


def share_of(setting: Locality, own: str, other: str) -> tuple[int, str]:
    """`distribute`: the share of callers at `own` that belongs to endpoints at `other`, and by which entry.

    A caller that no entry is for sends to all alike: its endpoints have one share together.
    """
    for entry in setting.distribute:
        if _is_within(own, entry.origin):
            matching = [(share, place) for place, share in entry.shares if _is_within(other, place)]
            return max(matching, key=lambda pair: len(pair[1])) if matching else (0, "")
    return 100, "*"


def _is_within(locality: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    if pattern.endswith("/*"):
        return locality.startswith(pattern[:-1])
    return locality == pattern or locality.startswith(pattern + "/")


def loads_of(levels: Sequence[tuple[int, int]]) -> tuple[float, ...]:
    """The share of requests that each level gets, nearest first.

    Args:
        levels: healthy and all endpoints of each.
    """
    left = 100.0
    loads = []
    for healthy, total in levels:
        able = min(100.0, _OVERPROVISIONING_PCT * healthy / total) if total else 0.0
        loads.append(min(left, able))
        left -= loads[-1]
    taken = 100.0 - left
    return tuple(load / taken if taken else 0.0 for load in loads)
