"""The engine's JSON (services, tasks, nodes, networks) -> a `View`. Pure.

Source: Docker Engine API, `GET /services`, `/tasks`, `/nodes`, `/networks`; the labels are those that the
injector writes. Every answer is read defensively: what is not of the documented shape is an error, so that a
partial answer cannot look like a smaller Swarm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from control_plane.discovery.labels import (
    bind_of,
    egress_of,
    gateway_of,
    gateway_ports_of,
    ports_of,
    selector_labels,
    servers_of,
    words,
)
from control_plane.discovery.view import MESH_NETWORK, SidecarTask, View
from control_plane.errors import DiscoveryError
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.inventory import AppAddress, Inventory, Port, Service
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import MESH_PORT

__all__ = ["NOT_INJECTED", "Answers", "view_of"]

STACK_LABEL = "com.docker.stack.namespace"
NOT_INJECTED = "not injected"
STARTED = frozenset({"starting", "running"})
"""Task states in which a container exists; swarmkit api/types.proto TaskState."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the engine said, in one go."""

    services: Sequence[Mapping[str, Any]]
    tasks: Sequence[Mapping[str, Any]]
    nodes: Sequence[Mapping[str, Any]]
    networks: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _SwarmService:
    id: str
    namespace: str
    key: str
    labels: Mapping[str, str]
    container_labels: Mapping[str, str]
    hostname: str
    networks: tuple[tuple[str, tuple[str, ...]], ...]
    ports: tuple[Port, ...]

    @property
    def name(self) -> ServiceName:
        return ServiceName(self.namespace, self.key)

    @property
    def workload(self) -> ServiceName | None:
        """The service whose sidecar this is."""
        key = self.labels.get("meshpy.workload")
        return ServiceName(self.namespace, key) if key else None


def view_of(answers: Answers, last: Mapping[ServiceName, Service] | None = None) -> View:
    """Put the four lists together.

    A service whose labels cannot be read, which whoever deploys can bring about, stays what it was in `last`,
    or is not there: nobody calls it, and it holds up nobody else. `View.unread` tells.

    Raises:
        DiscoveryError: an item is not of the documented shape.
    """
    try:
        names = {str(item["Id"]): str(item["Name"]) for item in answers.networks}
        services = [_swarm_service(item, names) for item in answers.services]
        nodes = {str(item["ID"]): _hostname(item) for item in answers.nodes}
        localities = {_hostname(item): _locality(item) for item in answers.nodes}
        sidecars = {s.id: s for s in services if s.workload}
        tasks = {t.task: t for t in _sidecar_tasks(answers.tasks, sidecars, nodes)}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DiscoveryError(f"the engine's answer is incomplete: {error!r}") from error
    stock = _Stock(last or {})
    stock.take([s for s in services if s.namespace])
    meshed = _with_endpoints(stock.found, tasks.values())
    return View(Inventory(meshed, localities), tasks, tuple(sorted(stock.unread)))


def _swarm_service(item: Mapping[str, Any], networks: Mapping[str, str]) -> _SwarmService:
    spec = item["Spec"]
    labels = spec.get("Labels") or {}
    namespace = labels.get(STACK_LABEL, "")
    template = spec["TaskTemplate"]
    container = template.get("ContainerSpec") or {}
    attached = template.get("Networks") or spec.get("Networks") or ()
    return _SwarmService(
        id=str(item["ID"]),
        namespace=namespace,
        key=str(spec["Name"]).removeprefix(f"{namespace}_"),
        labels=labels,
        container_labels=container.get("Labels") or {},
        hostname=str(container.get("Hostname") or ""),
        networks=tuple(
            (networks.get(n["Target"], n["Target"]), tuple(n.get("Aliases") or ())) for n in attached
        ),
        ports=_published(item),
    )


def _published(item: Mapping[str, Any]) -> tuple[Port, ...]:
    endpoint = item["Spec"].get("EndpointSpec") or {}
    ports = endpoint.get("Ports") or ()
    numbers = {int(p["TargetPort"]) for p in ports if p.get("Protocol", "tcp") == "tcp"}
    return tuple(Port(number, Protocol.TCP, published=True) for number in sorted(numbers))


def _hostname(item: Mapping[str, Any]) -> str:
    return str((item.get("Description") or {}).get("Hostname") or "")


_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


def _locality(item: Mapping[str, Any]) -> str:
    """`region/zone/subzone` of a node, from its labels; the subzone is the node itself unless labelled."""
    labels = (item.get("Spec") or {}).get("Labels") or {}
    given = str(labels.get("meshpy.locality", "")).split("/") if "meshpy.locality" in labels else ()
    parts = given or tuple(str(labels.get(name, "")) for name in _TOPOLOGY)
    region, zone, subzone = (*parts, "", "", "")[:3]
    return f"{region}/{zone}/{subzone or _hostname(item)}"


def _sidecar_tasks(
    items: Iterable[Mapping[str, Any]], sidecars: Mapping[str, _SwarmService], nodes: Mapping[str, str]
) -> Iterable[SidecarTask]:
    doors = {key: frozenset(words(each.labels.get("meshpy.doors", ""))) for key, each in sidecars.items()}
    for item in items:
        sidecar = sidecars.get(item["ServiceID"])
        state = item["Status"]["State"]
        if sidecar is None or sidecar.workload is None:
            continue
        if item["DesiredState"] != "running" or state not in STARTED:
            continue
        yield SidecarTask(
            task=str(item["ID"]),
            service=sidecar.workload,
            addresses=_addresses(item, doors[sidecar.id]),
            node=nodes.get(item.get("NodeID", ""), ""),
            slot=int(item.get("Slot") or 0),
            is_serving=state == "running",
        )


def _addresses(item: Mapping[str, Any], doors: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """A task's addresses by network, but for those at which callers without a sidecar arrive.

    What a sidecar is not told here it takes for its edge, as the address that published ports lead to.
    """
    found: dict[str, tuple[str, ...]] = {}
    for attachment in item.get("NetworksAttachments") or ():
        name = attachment["Network"]["Spec"]["Name"]
        if name in doors:
            continue
        found[name] = tuple(a.partition("/")[0] for a in attachment.get("Addresses") or ())
    return found


class _Stock:
    """Services by name, as far as their labels can be read.

    Args:
        last: what they were at the last look.
    """

    def __init__(self, last: Mapping[ServiceName, Service]) -> None:
        self._last = last
        self.found: dict[ServiceName, Service] = {}
        self.unread: list[str] = []

    def take(self, services: Sequence[_SwarmService]) -> None:
        """Apps joined with their sidecars, and everyone else with the reason why they are outside."""
        apps = {s.name: s for s in services if s.workload is None}
        sidecars = {name: s for s in services if (name := s.workload) is not None}
        for name, sidecar in sidecars.items():
            self._add(
                name, f"{name.swarm_name}-sidecar", partial(_from_sidecar, sidecar, name, apps.get(name))
            )
        meshed = {network for service in self.found.values() for network in service.networks}
        for name, app in apps.items():
            if name not in sidecars:
                self._add(name, name.swarm_name, partial(_exempt, app, meshed))

    def _add(self, name: ServiceName, called: str, read: Callable[[], Service]) -> None:
        try:
            self.found[name] = read()
        except DiscoveryError as error:
            known = self._last.get(name)
            if known is not None:
                self.found[name] = replace(known, endpoints=())
            stays = "it is left out" if known is None else "it stays what it was"
            self.unread.append(f"labels of {called}: {error}; {stays}")


def _from_sidecar(sidecar: _SwarmService, name: ServiceName, app: _SwarmService | None) -> Service:
    labels = sidecar.labels
    own = {**app.container_labels, **app.labels} if app else {}
    pod = labels.get("meshpy.pod", "")
    return Service(
        name=name,
        labels=selector_labels(own, name.namespace, name.name),
        ports=ports_of(labels),
        hosts=words(labels.get("meshpy.hosts", "")),
        networks=frozenset(words(labels.get("meshpy.networks", ""))),
        bind=bind_of(labels),
        app=AppAddress(dns=f"tasks.{name.name}.{pod}" if pod else ""),
        egress=egress_of(labels.get("meshpy.egress", "")),
        servers=servers_of(labels.get("meshpy.servers", "")),
        gateway_ports=gateway_ports_of(labels.get("meshpy.gateway", "")),
        credentials=words(labels.get("meshpy.credentials", "")),
        gateway=gateway_of(labels.get("meshpy.egress_gateway", "")),
        is_gateway=labels.get("meshpy.role") == "egress-gateway",
        outbound=labels.get("meshpy.outbound", ""),
        patterns=words(labels.get("meshpy.patterns", "")),
    )


def _exempt(app: _SwarmService, meshed: set[str]) -> Service:
    """A service without a sidecar, as callers in the mesh reach it.

    Args:
        meshed: networks on which meshed services sat; there a sidecar can resolve its tasks.
    """
    own = {**app.container_labels, **app.labels}
    networks = {network for network, _ in app.networks}
    shared = sorted(networks & meshed) or sorted(networks)
    return Service(
        name=app.name,
        labels=selector_labels(own, app.namespace, app.key),
        ports=ports_of(own) or app.ports,
        hosts=_further_names(app, own),
        networks=frozenset(networks),
        app=AppAddress(dns=f"tasks.{app.name.swarm_name}.{shared[0]}" if shared else ""),
        exempt=app.labels.get("meshpy.exempt") or NOT_INJECTED,
    )


def _further_names(app: _SwarmService, own: Mapping[str, str]) -> tuple[str, ...]:
    """Aliases, hostname and `meshpy.host`; the engine lists the service's own key among the aliases."""
    names = [alias for _, aliases in app.networks for alias in aliases]
    names += [app.hostname, *words(own.get("meshpy.host", ""))]
    return tuple(dict.fromkeys(name for name in names if name and "{{" not in name and name != app.key))


def _with_endpoints(
    services: Mapping[ServiceName, Service], tasks: Iterable[SidecarTask]
) -> dict[ServiceName, Service]:
    endpoints: dict[ServiceName, list[Endpoint]] = defaultdict(list)
    for task in tasks:
        if task.is_serving:
            for address in task.addresses.get(MESH_NETWORK, ()):
                endpoints[task.service].append(Endpoint(address, MESH_PORT, task.service, task.node))
    return {
        name: replace(service, endpoints=tuple(sorted(endpoints[name], key=lambda e: e.address)))
        if name in endpoints
        else service
        for name, service in services.items()
    }
