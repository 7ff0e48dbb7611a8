"""Pure: which process runs where on loopback, and the inventory that says so to the control plane."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meshpy.errors import MeshpyError
from meshpy.model.endpoint import Endpoint
from meshpy.model.inventory import AppAddress, Inventory, Service
from meshpy.model.names import ServiceName, standard_hosts
from meshpy.model.snapshot import MESH_PORT

__all__ = ["AppProcess", "DemoPlan", "SidecarProcess", "StackCommand", "plan_demo"]

MOST_SERVICES = 250
FIRST_DEPENDENCY = 10


@dataclass(frozen=True, slots=True)
class StackCommand:
    """What a stack file says about starting a service: argv and environment; `{address}` is filled in."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AppProcess:
    service: ServiceName
    argv: tuple[str, ...]
    env: Mapping[str, str]
    address: str


@dataclass(frozen=True, slots=True)
class SidecarProcess:
    """A sidecar and its three addresses: for its app's calls there are more, one a dependency."""

    service: ServiceName
    mesh_address: str
    edge_address: str


@dataclass(frozen=True, slots=True)
class DemoPlan:
    apps: tuple[AppProcess, ...]
    sidecars: tuple[SidecarProcess, ...]
    inventory: Inventory
    left_out: Mapping[str, str]


def plan_demo(
    inventory: Inventory, commands: Mapping[str, StackCommand], *, octet: int, left_out: Mapping[str, str]
) -> DemoPlan:
    """Place service k on 127.`octet`.k: .1 the app, .2 its sidecar, .3 open ports, .10 … its dependencies.

    Args:
        left_out: services that are not run, with the reason.

    Raises:
        MeshpyError: more services than addresses.
    """
    services = [
        s for s in sorted(inventory.services.values(), key=lambda s: s.name) if s.name.name not in left_out
    ]
    if len(services) > MOST_SERVICES:
        raise MeshpyError(f"the demo places at most {MOST_SERVICES} services, the stack has {len(services)}")
    apps, sidecars, placed = [], [], {}
    for index, service in enumerate(services, start=1):
        net = f"127.{octet}.{index}"
        binds = {
            host: f"{net}.{number}"
            for number, host in enumerate(_callable_hosts(service, services), start=FIRST_DEPENDENCY)
        }
        apps.append(_app(service, commands[service.name.name], f"{net}.1", binds, services))
        sidecars.append(SidecarProcess(service.name, f"{net}.2", f"{net}.3"))
        placed[service.name] = dataclasses.replace(
            service,
            bind=binds,
            app=AppAddress(addresses=(f"{net}.1",)),
            endpoints=(Endpoint(f"{net}.2", MESH_PORT, service.name, "local"),),
        )
    return DemoPlan(tuple(apps), tuple(sidecars), Inventory(placed), left_out)


def _callable_hosts(caller: Service, services: Sequence[Service]) -> list[str]:
    """Every host that `caller` could call in the original topology, each once, in a fixed order."""
    hosts: dict[str, None] = {}
    for callee in services:
        if callee.name != caller.name and callee.networks & caller.networks:
            hosts.setdefault(callee.name.name)
            hosts.update(dict.fromkeys(callee.hosts))
    return list(hosts)


def _app(
    service: Service,
    command: StackCommand,
    address: str,
    binds: Mapping[str, str],
    services: Sequence[Service],
) -> AppProcess:
    names: dict[str, str] = {}
    by_name = {s.name.name: s.name for s in services}
    for host, bound in binds.items():
        names.update(dict.fromkeys(standard_hosts(by_name[host]) if host in by_name else (host,), bound))
    env = {key: names.get(value) or _with_addresses(value, names) for key, value in command.env.items()}
    argv = tuple(_with_addresses(word.replace("{address}", address), names) for word in command.argv)
    return AppProcess(service.name, argv, {**env, "BIND": address}, address)


def _with_addresses(text: str, names: Mapping[str, str]) -> str:
    """Replace each host name that stands where only a host can: after `//` or `@`, or before `:port`."""
    if not names:
        return text
    alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    before_port = rf"(?<![\w.-])({alternatives})(?=:\d)"
    after_mark = rf"(?<=//|.@)({alternatives})(?![\w.-])"
    pattern = f"{before_port}|{after_mark}"
    return re.sub(pattern, lambda found: names[found.group(0)], text)
