"""Where evidence comes from: a recording, or what the control plane saw of flows and rules."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshpy.analysis.recording import Recording, read_recording
from meshpy.analysis.suggest import Observed, Sighting
from meshpy.cli.offline import Offline
from meshpy.client import Operator
from meshpy.errors import MeshpyError
from meshpy.model.names import ServiceName

__all__ = ["LIVE", "LiveFlows", "recorded"]

LIVE = "live"
"""In the place of a recording: ask the control plane."""


@dataclass(frozen=True, slots=True)
class LiveFlows:
    """Args:
    seen: each sighting with when it was seen last.
    rules: (policy, rule) → when it last decided a request.
    since_s: since when rules are watched.
    """

    observed: Observed
    seen: tuple[tuple[Sighting, float], ...]
    rules: Mapping[tuple[str, str], float]
    since_s: float
    now_s: float

    @classmethod
    def ask(cls, operator: Operator) -> LiveFlows:
        """Ask the control plane.

        Raises:
            ApiError: it cannot be asked.
            MeshpyError: no sidecar has told anything yet.
        """
        return cls.of(operator.call("GET", "/v1/flows"))

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> LiveFlows:
        """Read the answer of `GET /v1/flows`.

        Raises:
            MeshpyError: no sidecar has told anything yet, or what a replica was told is not known.
        """
        if silent := answer.get("silent"):
            raise MeshpyError(
                "what other replicas of the control plane saw is missing, ask again when they answer: "
                + "; ".join(silent)
            )
        seen = [found for callee in answer["callees"] for found in _sightings(callee)]
        if not answer["callees"]:
            raise MeshpyError("no sidecar has told of any request yet; come back when there was traffic")
        services = {ServiceName.parse(each["service"]): each for each in answer["callees"]}
        observed = Observed(
            tuple(sighting for sighting, _ in seen),
            {name: float(each["watched_s"]) for name, each in services.items()},
            float(answer["now_s"]),
            {name: int(each["lost"]) for name, each in services.items()},
        )
        rules = {(each["policy"], each["rule"]): float(each["last_s"]) for each in answer["rules"]}
        return cls(observed, tuple(seen), rules, float(answer["since_s"]), float(answer["now_s"]))


def _sightings(callee: Mapping[str, Any]) -> list[tuple[Sighting, float]]:
    destination = ServiceName.parse(callee["service"])
    return [
        (
            Sighting(
                ServiceName.parse(each["source"]) if each["source"] else None,
                destination,
                each["port"],
                each["method"],
                each["path"],
                each["requests"],
                each["first_s"],
            ),
            float(each["last_s"]),
        )
        for each in callee["flows"]
    ]


def recorded(path: Path, mesh: Offline) -> Recording:
    """A recording that has something to say.

    Raises:
        MeshpyError: no line of it can be used.
    """
    text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8", errors="replace")
    recording = read_recording(text.splitlines(), mesh.snapshots)
    if not recording.entries:
        why = ", ".join(f"{count} × {reason}" for reason, count in recording.skipped.items()) or "it is empty"
        raise MeshpyError(f"{path}: no line is an inbound request of this mesh: {why}")
    return recording
