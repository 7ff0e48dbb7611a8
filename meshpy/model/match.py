"""Matches: closed unions of what a request can be compared with. Values only; `engine` evaluates them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = [
    "Exact",
    "HeaderMatch",
    "PathTemplate",
    "Prefix",
    "Present",
    "Regex",
    "RequestMatch",
    "SegmentPrefix",
    "StringMatch",
    "Suffix",
]


@dataclass(frozen=True, slots=True)
class Exact:
    value: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """A plain string prefix: `/foo` matches `/foobar` (Istio)."""

    value: str


@dataclass(frozen=True, slots=True)
class SegmentPrefix:
    """A prefix of whole segments: `/foo` matches `/foo` and `/foo/x`, not `/foobar` (Calico)."""

    value: str


@dataclass(frozen=True, slots=True)
class Suffix:
    value: str


@dataclass(frozen=True, slots=True)
class Present:
    """Any non-empty value (Istio's `*`)."""


@dataclass(frozen=True, slots=True)
class Regex:
    """An RE2 expression that must match the whole value; at most 1,024 characters."""

    value: str


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """Istio's path template: `{*}` is one segment, `{**}` any number of them."""

    value: str


StringMatch: TypeAlias = Exact | Prefix | SegmentPrefix | Suffix | Present | Regex | PathTemplate


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """One header by its lower-case name; `match` None means: the header is there, whatever its value."""

    name: str
    match: StringMatch | None = None
    invert: bool = False


@dataclass(frozen=True, slots=True)
class RequestMatch:
    """One entry of VirtualService `http[].match[]`: all that is set must hold.

    Invariants: header names are lower case; `source_labels` and `source_namespace` were resolved at
    compile time for the workload that holds the snapshot, so they do not stand here.
    """

    name: str = ""
    path: StringMatch | None = None
    ignore_path_case: bool = False
    method: StringMatch | None = None
    scheme: StringMatch | None = None
    authority: StringMatch | None = None
    port: int | None = None
    headers: tuple[HeaderMatch, ...] = ()
    query: Mapping[str, StringMatch] = field(default_factory=dict)
