"""Probes as Swarm services: made, waited for by what they print, and removed with their networks."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from meshpy.cli.docker import Docker, DockerError
from meshpy.cli.engine_api import EngineApi, EngineRefused, filters

__all__ = ["LABEL", "Probes", "probe_text", "probes"]

LABEL = {"meshpy.part": "check"}
GONE_S = 30.0
STALE_S = 600.0
"""What is older was left by a run that was killed."""
LOOK_S = 0.5
GRACE_NS = 1_000_000_000


def probe_text() -> str:
    """The probe, for `python3 -c`."""
    return (files("meshpy.cli.checks") / "probe.py").read_text()


class Probes:
    """The probes of one run; everything made is named after it and labelled."""

    def __init__(self, engine: EngineApi, docker: Docker, image: str) -> None:
        self._engine, self._docker, self._image = engine, docker, image
        self.name = f"meshpy-check-{secrets.token_hex(3)}"
        self._services: list[str] = []

    def network(self, suffix: str, *, encrypted: bool) -> str:
        """Make an internal overlay network and return its name."""
        name = f"{self.name}-{suffix}"
        spec: dict[str, Any] = {
            "Name": name,
            "Driver": "overlay",
            "Internal": True,
            "CheckDuplicate": True,
            "Labels": LABEL,
        }
        if encrypted:
            spec["Options"] = {"encrypted": "true"}
        self._engine.post("/networks/create", spec)
        return name

    def service(
        self, name: str, networks: Sequence[str], mode: str, given: Mapping[str, object], *, everywhere: bool
    ) -> str:
        """Start a probe and return its service's id."""
        container = {
            "Image": self._image,
            "Command": ["python3", "-c", probe_text(), mode, json.dumps(given)],
            "Env": ["NODE={{.Node.Hostname}}"],
            "User": "0:0",
            "ReadOnly": True,
            "CapabilityDrop": ["ALL"],
            "CapabilityAdd": ["CAP_NET_ADMIN"] if everywhere else [],  # to ask the kernel for an ESP state
            "Healthcheck": {"Test": ["NONE"]},  # names are published once a task is healthy
            "StopGracePeriod": GRACE_NS,
            "Labels": LABEL,
        }
        spec = {
            "Name": name,
            "Labels": LABEL,
            "TaskTemplate": {
                "ContainerSpec": container,
                "RestartPolicy": {"Condition": "none"},
                "Networks": [{"Target": each} for each in networks],
                "LogDriver": {"Name": "json-file"},
            },
            "Mode": {"Global": {}} if everywhere else {"Replicated": {"Replicas": 1}},
            "EndpointSpec": {"Mode": "vip" if everywhere else "dnsrr"},
        }
        made: str = self._engine.post("/services/create", spec)["ID"]
        self._services.append(made)
        return made

    def answers(self, service: str, count: int, within_s: float) -> tuple[list[Mapping[str, Any]], list[str]]:
        """Wait for one line of each of `count` tasks: what they told, and why others did not."""
        deadline = time.monotonic() + within_s
        while True:
            tasks = self._engine.get("/tasks", filters(service=service)) or ()
            errors = sorted({each["Status"]["Err"] for each in tasks if each["Status"].get("Err")})
            started = [each for each in tasks if each["Status"]["State"] in ("running", "complete", "failed")]
            told = self._told(service) if started else []
            if len(told) >= count or (errors and len(told) + len(errors) >= count):
                return told, errors
            if time.monotonic() > deadline:
                return told, errors or ["it printed nothing in time"]
            time.sleep(LOOK_S)

    def _told(self, service: str) -> list[Mapping[str, Any]]:
        try:
            lines = self._docker.run("service", "logs", "--raw", service).splitlines()
        except DockerError:
            return []
        return [json.loads(line) for line in lines if line.startswith("{")]

    def clear(self) -> list[str]:
        """Remove what this run made, and what runs of long ago left; the names of what would not go."""
        for each in self._ours("/services"):
            self._engine.delete(f"/services/{each['ID']}")
        deadline = time.monotonic() + GONE_S
        while left := self._ours("/networks"):  # they go when the last task has left them
            for each in left:
                with suppress(EngineRefused):
                    self._engine.delete(f"/networks/{each['Id']}")
            if time.monotonic() > deadline:
                return [each["Name"] for each in left]
            time.sleep(LOOK_S)
        return []

    def _ours(self, path: str) -> list[Mapping[str, Any]]:
        return [
            each
            for each in self._engine.get(path, filters(label="meshpy.part=check")) or ()
            if _name(each).startswith(self.name) or _age_s(each) > STALE_S
        ]


def _name(thing: Mapping[str, Any]) -> str:
    return str(thing.get("Name") or thing["Spec"]["Name"])


def _age_s(thing: Mapping[str, Any]) -> float:
    made = datetime.fromisoformat((thing.get("Created") or thing["CreatedAt"])[:19] + "+00:00")
    return (datetime.now(UTC) - made).total_seconds()


@contextmanager
def probes(engine: EngineApi, docker: Docker, image: str, tell: Callable[[str], None]) -> Iterator[Probes]:
    """Probes that leave nothing behind, however the block ends; what an earlier run left goes too."""
    made = Probes(engine, docker, image)
    made.clear()
    try:
        yield made
    finally:
        left: Iterable[str] = made.clear()
        for name in left:
            tell(f"the network {name} would not go: remove it with `docker network rm {name}`")
