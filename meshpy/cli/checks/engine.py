"""The docker command, the engines, the managers and the nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from meshpy.cli.checks.site import Site
from meshpy.cli.checks.verdict import Check, Verdict, failed, ok, warning
from meshpy.cli.docker import DockerError

__all__ = ["ENGINE", "known_faults", "version_of"]

OLDEST, OLDEST_API = (20, 10), (1, 41)
UPGRADE = "upgrade Docker on that node to 20.10 or newer"

Version = tuple[int, ...]


def version_of(text: str) -> Version:
    """`20.10.24+dfsg1` -> (20, 10, 24)."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def known_faults(version: Version) -> Iterator[str]:
    """What is known to be wrong with an engine, and in which versions it is right."""
    leaks = version < (23, 0, 11) or (24,) <= version < (25, 0, 5)
    if leaks:
        yield (
            "names looked up on internal networks reach the host's resolver "
            "(CVE-2024-29018; fixed in 23.0.11, 25.0.5 and 26.0)"
        )
    if (29, 0) <= version < (29, 8):
        yield "after a node's short absence its tasks' names may stay unknown to others (moby 53141)"


def _answers(site: Site) -> Verdict:
    try:
        version = site.version
    except DockerError as error:
        return failed(str(error), "start Docker, or choose where it is: `docker context use`, DOCKER_HOST")
    return ok(f"engine {version['Version']}, API {version['ApiVersion']}")


def _api(site: Site) -> Verdict:
    stated = str(site.version["ApiVersion"])
    if version_of(stated) < OLDEST_API:
        return failed(f"it speaks API {stated}; jobs and capabilities of services need 1.41", UPGRADE)
    return ok()


def _engines(site: Site) -> Mapping[str, str]:
    return {
        node["Description"]["Hostname"]: node["Description"]["Engine"]["EngineVersion"] for node in site.nodes
    }


def _versions(site: Site) -> Verdict:
    found = _engines(site)
    old = [f"{name} runs {version}" for name, version in found.items() if version_of(version) < OLDEST]
    return failed("; ".join(old), UPGRADE) if old else ok(", ".join(sorted(set(found.values()))))


def _faults(site: Site) -> Verdict:
    found: dict[str, list[str]] = {}
    for name, version in _engines(site).items():
        for fault in known_faults(version_of(version)):
            found.setdefault(fault, []).append(f"{name} ({version})")
    if not found:
        return ok()
    told = "; ".join(f"{', '.join(nodes)}: {fault}" for fault, nodes in found.items())
    return warning(told, "upgrade Docker on these nodes")


def _manager(site: Site) -> Verdict:
    swarm: Mapping[str, Any] = site.info.get("Swarm") or {}
    if swarm.get("ControlAvailable"):
        return ok()
    state = swarm.get("LocalNodeState") or "inactive"
    hint = "run `docker swarm init`" if state == "inactive" else "choose a manager with `docker context use`"
    return failed(f"this engine is no manager (swarm: {state})", hint)


def _quorum(site: Site) -> Verdict:
    managers = [node for node in site.nodes if node["Spec"]["Role"] == "manager"]
    up = sum((node.get("ManagerStatus") or {}).get("Reachability") == "reachable" for node in managers)
    needed = len(managers) // 2 + 1
    told = f"{up} of {len(managers)} managers are reachable, {needed} must be"
    if up < needed:
        return failed(told, "bring managers back, or `docker swarm init --force-new-cluster` on the last one")
    if up == needed and len(managers) > 1:
        return warning(f"{told}: the loss of one more stops the Swarm", "add managers, three or five in all")
    return ok(told)


def _nodes(site: Site) -> Verdict:
    down = [
        f"{node['Description']['Hostname']} is {node['Status']['State']}"
        for node in site.nodes
        if node["Status"]["State"] != "ready"
    ]
    return warning("; ".join(down), "see `docker node ls`") if down else ok(f"{len(site.nodes)} nodes")


SECTION = "docker"
ENGINE = (
    Check(SECTION, "engine-answers", "the docker command reaches an engine", _answers),
    Check(SECTION, "api-version", "the engine's API is 1.41 or newer", _api, ("engine-answers",)),
    Check(SECTION, "swarm-manager", "the engine is a manager of a Swarm", _manager, ("engine-answers",)),
    Check(SECTION, "swarm-quorum", "the managers have a quorum", _quorum, ("swarm-manager",)),
    Check(SECTION, "nodes-ready", "every node is ready", _nodes, ("swarm-manager",)),
    Check(SECTION, "engine-version", "every node runs Docker 20.10 or newer", _versions, ("swarm-manager",)),
    Check(
        SECTION,
        "engine-faults",
        "no engine has a fault that concerns the mesh",
        _faults,
        ("swarm-manager",),
        is_advisory=True,
    ),
)
