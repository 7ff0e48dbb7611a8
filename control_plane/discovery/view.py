"""What discovery publishes: the inventory, and the tasks that attestation compares callers with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from meshpy.model.inventory import Inventory
from meshpy.model.names import ServiceName

__all__ = ["MESH_NETWORK", "Discovery", "DiscoveryHealth", "Publish", "SidecarTask", "View", "without"]

MESH_NETWORK = "mesh"
"""The network that all sidecars and the control plane share."""


@dataclass(frozen=True, slots=True)
class SidecarTask:
    """A task of a sidecar that is meant to run.

    Args:
        addresses: by the full name of the network.
        slot: which replica it is; 0 for one of a global service, which has one a node.
        is_serving: True once the engine reports it running, which it does after its healthcheck passed.
    """

    task: str
    service: ServiceName
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    node: str = ""
    slot: int = 0
    is_serving: bool = False

    @property
    def mesh_addresses(self) -> tuple[str, ...]:
        return self.addresses.get(MESH_NETWORK, ())


@dataclass(frozen=True, slots=True)
class View:
    """One consistent look at the world.

    Args:
        unread: of which services labels cannot be read, and why.
    """

    inventory: Inventory = field(default_factory=Inventory)
    tasks: Mapping[str, SidecarTask] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


def without(view: View, draining: Collection[str]) -> Inventory:
    """The inventory without the endpoints of tasks that are about to stop.

    A service keeps its endpoints where all of them are: a sidecar that drains still answers, nobody does not.
    """
    services = dict(view.inventory.services)
    gone = [task for name in draining if (task := view.tasks.get(name)) is not None]
    for name in {task.service for task in gone} & services.keys():
        addresses = {a for task in gone if task.service == name for a in task.mesh_addresses}
        kept = tuple(each for each in services[name].endpoints if each.address not in addresses)
        if kept:
            services[name] = replace(services[name], endpoints=kept)
    return replace(view.inventory, services=services) if gone else view.inventory


Publish = Callable[[View], None]


@dataclass(frozen=True, slots=True)
class DiscoveryHealth:
    """How the last reads went.

    Args:
        problem: why the view may be out of date; empty when it is not.
        failures: reads that failed since the start.
        age_s: seconds since the last good read; None when there was none.
        unread: services that the last good read could not take as they stand, and why.
    """

    source: str
    problem: str
    failures: int
    age_s: float | None
    unread: tuple[str, ...] = ()


class Discovery(Protocol):
    """A source of views."""

    async def run(self, publish: Publish) -> None:
        """Publish views until cancelled; a failed read is reported by `health` and changes nothing."""

    async def refresh(self) -> None:
        """Look again now; returns when that look was published or failed."""

    @property
    def health(self) -> DiscoveryHealth:
        """How the last reads went."""
