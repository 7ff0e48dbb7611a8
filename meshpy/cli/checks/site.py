"""What checks look at: the engine's and the control plane's answers, each asked for once, on first need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

from meshpy.cli.engine_api import STACK, EngineApi, filters
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError

__all__ = ["NotAsked", "Record", "Site", "labels_of", "network_ids", "stack_of"]

Record = Mapping[str, Any]


class NotAsked(MeshpyError):  # noqa: N818 - nothing went wrong
    """The user told `check` not to look there."""


class Site:
    """The Swarm behind the docker command and the mesh on it.

    Args:
        across: sends the probe to every node (`carriers.send_across`).
        within: sends one to apps' networks (`bypass.send_within`).
        stacks: look at these stacks alone; empty means all.
        subnet: what `meshpy install` will ask for.
        plain_is_wanted: the user deploys without encryption; `dnsrr_is_wanted`: without virtual addresses.
    """

    def __init__(
        self,
        engine: EngineApi,
        *,
        across: Callable[[Site], Sequence[Record]],
        within: Callable[[Site], Mapping[str, Record]],
        stacks: Sequence[str] = (),
        subnet: str = "",
        is_before: bool = False,
        plain_is_wanted: bool = False,
        dnsrr_is_wanted: bool = False,
    ) -> None:
        self.engine = engine
        self._across, self._within = across, within
        self.stacks = tuple(stacks)
        self.subnet = subnet
        self.is_before = is_before
        self.plain_is_wanted, self.dnsrr_is_wanted = plain_is_wanted, dnsrr_is_wanted

    @cached_property
    def version(self) -> Record:
        return self._record("/version")

    @cached_property
    def info(self) -> Record:
        return self._record("/info")

    @cached_property
    def nodes(self) -> Sequence[Record]:
        return self._list("/nodes")

    @property
    def ready_nodes(self) -> list[str]:
        """Hostnames of nodes that take tasks."""
        return sorted(
            node["Description"]["Hostname"]
            for node in self.nodes
            if node["Status"]["State"] == "ready" and node["Spec"]["Availability"] == "active"
        )

    @cached_property
    def networks(self) -> Sequence[Record]:
        return [each for each in self._list("/networks") if each.get("Scope") == "swarm"]

    def network(self, name: str) -> Record | None:
        return next((each for each in self.networks if each["Name"] == name), None)

    @cached_property
    def services(self) -> Sequence[Record]:
        return self._list("/services")

    @cached_property
    def tasks(self) -> Sequence[Record]:
        """Those that should run."""
        return list(self.engine.get("/tasks", filters(**{"desired-state": "running"})) or ())

    @cached_property
    def secrets(self) -> frozenset[str]:
        return frozenset(each["Spec"]["Name"] for each in self._list("/secrets"))

    @cached_property
    def configs(self) -> Mapping[str, Record]:
        return {each["Spec"]["Name"]: each for each in self._list("/configs")}

    @property
    def sidecars(self) -> list[Record]:
        """Services that the injector wrote, of the stacks that are looked at."""
        wanted = [each for each in self.services if "meshpy.workload" in labels_of(each)]
        return [each for each in wanted if not self.stacks or stack_of(each) in self.stacks]

    def app_of(self, sidecar: Record) -> Record | None:
        """The service that a sidecar stands before."""
        name = f"{stack_of(sidecar)}_{labels_of(sidecar)['meshpy.workload']}"
        return next((each for each in self.services if each["Spec"]["Name"] == name), None)

    def running(self, service: Record) -> list[Record]:
        return [
            t for t in self.tasks if t["ServiceID"] == service["ID"] and t["Status"]["State"] == "running"
        ]

    @cached_property
    def context(self) -> Context:
        return Context.load()

    @cached_property
    def operator(self) -> Operator:
        return Operator(self.context, timeout_s=10)

    @cached_property
    def status(self) -> Record:
        answer: Record = self.operator.call("GET", "/v1/status")
        return answer

    @cached_property
    def ca(self) -> Record:
        answer: Record = self.operator.call("GET", "/v1/ca")
        return answer

    @cached_property
    def bundle(self) -> Record:
        answer: Record = self.operator.call("GET", "/v1/bundle")
        return answer

    @cached_property
    def control_plane_ahead_s(self) -> float | None:
        """How far the control plane's clock is before ours, by its Date header (whole seconds)."""
        begin = time.time()
        answer = self.operator.send("GET", "/readyz", {}, None)
        stated = next((value for name, value in answer.headers if name.lower() == "date"), "")
        if not stated:
            return None
        return parsedate_to_datetime(stated).timestamp() + 0.5 - (begin + time.time()) / 2

    @cached_property
    def across(self) -> Sequence[Record]:
        return self._across(self)

    @cached_property
    def within(self) -> Mapping[str, Record]:
        return self._within(self)

    @cached_property
    def now(self) -> datetime:
        return datetime.now(UTC)

    def _record(self, path: str) -> Record:
        answer: Record = self.engine.get(path)
        return answer

    def _list(self, path: str) -> Sequence[Record]:
        return list(self.engine.get(path) or ())


def labels_of(thing: Record) -> Mapping[str, str]:
    return (thing.get("Spec") or thing).get("Labels") or {}


def stack_of(thing: Record) -> str:
    return labels_of(thing).get(STACK, "")


def network_ids(service: Record) -> Iterable[str]:
    """What a service is attached to."""
    spec = service["Spec"]
    attached = spec["TaskTemplate"].get("Networks") or spec.get("Networks") or ()
    return [each["Target"] for each in attached]
