"""Attestation: which evidence makes a caller a service.

On a Swarm three things must agree: the join token (a secret that only tasks of this sidecar mount), the task
id, and the source address, which must be that task's address on the network `mesh` by the engine's account.
On one machine (the demo, tests) it is the token and a loopback address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from control_plane.discovery.view import MESH_NETWORK, Discovery, View
from control_plane.errors import AttestationRefused
from meshpy.model.names import ROOT_NAMESPACE, ServiceName

__all__ = ["Attested", "Attestor", "Claim", "LocalAttestor", "SwarmAttestor", "require_meshed"]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a caller says it is; `service` was compared with its token or its certificate before.

    Args:
        address: where the connection came from.
    """

    service: ServiceName
    task: str
    address: str


@dataclass(frozen=True, slots=True)
class Attested:
    """Who the caller is.

    Args:
        addresses: the task's own, by network.
    """

    service: ServiceName
    task: str
    addresses: Mapping[str, tuple[str, ...]]


class Attestor(Protocol):
    async def attest(self, claim: Claim) -> Attested:
        """Compare a claim with the evidence.

        Raises:
            AttestationRefused: some evidence is missing; the message says which.
        """


@dataclass(frozen=True, slots=True)
class LocalAttestor:
    """Everything runs on this machine."""

    view: Callable[[], View]

    async def attest(self, claim: Claim) -> Attested:
        require_meshed(self.view(), claim.service)
        if not ipaddress.ip_address(claim.address).is_loopback:
            raise AttestationRefused("address", f"{claim.address} is no loopback address of this machine")
        return Attested(claim.service, claim.task, {})


@dataclass(frozen=True, slots=True)
class SwarmAttestor:
    """The engine is asked; its last good answer decides, after one fresh look where that does not fit."""

    view: Callable[[], View]
    discovery: Discovery

    async def attest(self, claim: Claim) -> Attested:
        try:
            return _judge(self.view(), claim)
        except AttestationRefused:
            await self.discovery.refresh()  # a task may be younger than the last poll
            return _judge(self.view(), claim)


def _judge(view: View, claim: Claim) -> Attested:
    require_meshed(view, claim.service)
    sidecar = f"{claim.service.swarm_name}-sidecar"
    task = view.tasks.get(claim.task)
    if task is None:
        raise AttestationRefused("task", f"the engine knows no running task {claim.task[:64]!r} of {sidecar}")
    if task.service != claim.service:
        raise AttestationRefused("task", f"task {claim.task} is one of {task.service}, not of {sidecar}")
    if claim.address not in task.addresses.get(MESH_NETWORK, ()):
        raise AttestationRefused(
            "address",
            f"{claim.address} is not the address of task {claim.task} on the network {MESH_NETWORK}",
        )
    return Attested(claim.service, claim.task, task.addresses)


def require_meshed(view: View, service: ServiceName) -> None:
    """Nothing, unless there is no such service in the mesh.

    Raises:
        AttestationRefused: it is unknown, exempt, or the mesh itself.
    """
    known = view.inventory.services.get(service)
    if service.namespace == ROOT_NAMESPACE:
        raise AttestationRefused("service", f"{service} is the mesh itself; nothing is issued for it here")
    if known is None:
        raise AttestationRefused("service", f"{service} is in no inventory; is its stack deployed?")
    if known.exempt:
        raise AttestationRefused("service", f"{service} is not meshed ({known.exempt})")
