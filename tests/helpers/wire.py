"""Snapshots as a sidecar has them: printed, cut into a delta, sent as text, put together and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from control_plane.snapshots import printed
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot
from meshpy.wire import apply_delta, decode, decode_snapshot, delta, encode

__all__ = ["as_received", "mesh_as_received", "value_as_received"]

T = TypeVar("T")


def as_received(snapshot: Snapshot, before: Snapshot | None = None) -> Snapshot:
    """What a sidecar that holds `before` decides by once it is sent `snapshot`."""
    held = dict(printed(before).data) if before is not None else None
    sent = delta(held, printed(snapshot).data)
    read = decode_snapshot(apply_delta(held, json.loads(json.dumps(sent))))
    assert replace(read, version=snapshot.version) == snapshot
    return read


def mesh_as_received(
    snapshots: Mapping[ServiceName, Snapshot], before: Mapping[ServiceName, Snapshot] | None = None
) -> dict[ServiceName, Snapshot]:
    """Every sidecar's snapshot as it has it."""
    held = before or {}
    return {name: as_received(snapshot, held.get(name)) for name, snapshot in snapshots.items()}


def value_as_received(value: T) -> T:
    """A part of a snapshot by itself."""
    read = decode(type(value), json.loads(json.dumps(encode(value))))
    assert read == value
    return read
