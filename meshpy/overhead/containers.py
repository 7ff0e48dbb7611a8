"""CPU and memory of a stack's tasks on this node, by the engine's own counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Usage", "read_usage", "tasks_of", "usage_of"]

SIDECAR = "-sidecar"
_AT_ONCE = "stream=false&one-shot=true"


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all apps and of all sidecars of a stack: CPU seconds since they began, bytes now."""

    apps: int = 0
    sidecars: int = 0
    apps_cpu_s: float = 0.0
    sidecars_cpu_s: float = 0.0
    apps_bytes: int = 0
    sidecars_bytes: int = 0

    def since(self, before: Usage) -> Usage:
        """CPU between the two; memory as it is now."""
        return Usage(
            self.apps,
            self.sidecars,
            max(0.0, self.apps_cpu_s - before.apps_cpu_s),
            max(0.0, self.sidecars_cpu_s - before.sidecars_cpu_s),
            self.apps_bytes,
            self.sidecars_bytes,
        )


def read_usage(get: Callable[[str], Any], stack: str) -> Usage | None:
    """What the stack's tasks on this node have used until now; None when none runs here.

    Args:
        get: answers a GET of the Engine API.
    """
    tasks = tasks_of(get("/containers/json"), stack)
    found = [
        (is_sidecar, get(f"/containers/{ident}/stats?{_AT_ONCE}")) for ident, is_sidecar in tasks.items()
    ]
    return usage_of(found) if found else None


def tasks_of(containers: Iterable[Mapping[str, Any]], stack: str) -> dict[str, bool]:
    """Id of each running container of the stack (`GET /containers/json`) → whether it is a sidecar's."""
    labels = {each["Id"]: each.get("Labels", {}) for each in containers}
    return {
        ident: named["com.docker.swarm.service.name"].endswith(SIDECAR)
        for ident, named in labels.items()
        if named.get("com.docker.stack.namespace") == stack and "com.docker.swarm.service.name" in named
    }


def usage_of(stats: Iterable[tuple[bool, Mapping[str, Any]]]) -> Usage:
    """Add up answers of `GET /containers/{id}/stats?stream=false&one-shot=true`.

    Memory is what the container itself needs: page cache that can be dropped is taken off, as `docker stats`
    does (docker/cli calculateMemUsageUnixNoCache).
    """
    cpu, memory, count = {False: 0.0, True: 0.0}, {False: 0, True: 0}, {False: 0, True: 0}
    for is_sidecar, each in stats:
        count[is_sidecar] += 1
        cpu[is_sidecar] += each.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage", 0) / 1e9
        used = each.get("memory_stats", {})
        detail = used.get("stats", {})
        dropped = detail.get("total_inactive_file", detail.get("inactive_file", 0))
        memory[is_sidecar] += max(0, used.get("usage", 0) - dropped)
    return Usage(count[False], count[True], cpu[False], cpu[True], memory[False], memory[True])
