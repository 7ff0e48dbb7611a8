"""Findings on VirtualServices and DestinationRules: hosts, ports, subsets, conflicts, dead rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from meshpy.compile.bindings import is_served
from meshpy.compile.clusters import checks_fit, rules_for, selected, subset_named
from meshpy.compile.delegates import delegates_of, delegation_of
from meshpy.compile.documents import seen_at
from meshpy.compile.findings import Notes, listed
from meshpy.compile.hosts import Directory, LogicalHost
from meshpy.compile.outside import entries_seen, outside_hosts
from meshpy.compile.snapshot import Mesh
from meshpy.compile.tunnels import connect_targets
from meshpy.model.endpoint import Protocol
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.policy.kinds import DestinationDoc, DestinationRuleDoc, HostRef, SubsetDoc, VirtualServiceDoc
from meshpy.policy.mesh_docs import ServiceEntryDoc
from meshpy.policy.route_docs import OF_MESH

__all__ = ["check_destination_rules", "check_virtual_services", "targets_of"]


class _External:
    """Every host outside the mesh that routes of a stack's services may lead to; the root's: of any stack."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._known: dict[str, dict[str, LogicalHost]] = {}

    def get(self, host: str, namespace: str) -> LogicalHost | None:
        if namespace not in self._known:
            self._known[namespace] = self._hosts(namespace)
        return self._known[namespace].get(host)

    def _hosts(self, namespace: str) -> dict[str, LogicalHost]:
        found: dict[str, LogicalHost] = {}
        for service in self._mesh.directory.inventory.services.values():
            own = service.name.namespace
            if namespace in (own, ROOT_NAMESPACE):
                found |= outside_hosts(service, entries_seen(self._mesh.policies.service_entries, own))
        return found


def _hint(directory: Directory, namespace: str) -> str:
    hosts = {host.label for host in directory.by_name.values()}
    own = {label for label in hosts if label.endswith(f".{namespace}")}
    return f"write a host of a service, hosts {listed(own or hosts)}"


def check_virtual_services(mesh: Mesh, notes: Notes) -> None:
    """Check every VirtualService, and that no two of a namespace govern one host (PEERS M14)."""
    external = _External(mesh)
    governed: dict[tuple[str, str], list[tuple[VirtualServiceDoc, HostRef]]] = defaultdict(list)
    for document in mesh.policies.virtual_services:
        namespace = document.meta.namespace
        for ref in document.hosts if any(True for _ in seen_at(OF_MESH, (document,))) else ():
            host = mesh.directory.resolve(ref.host, namespace) or external.get(ref.host, namespace)
            governed[namespace, host.label if host is not None else ref.host].append((document, ref))
            is_outside = host is None and is_served(ref.host, document, mesh.policies.gateways)
            if not ref.host.startswith("*") and not is_outside:
                _check_host(document, ref, host, mesh, notes)
        _check_dead_rules(document, notes)
        for target in targets_of(document):
            _check_destination(document, target, external, mesh, notes)
    for (_, label), holders in governed.items():
        for number, (document, ref) in enumerate(holders):
            rivals = (other for other, _ in holders[:number] if other is not document)
            first = next((other for other in rivals if _have_callers_in_common(document, other)), None)
            if first is not None:
                what = f"{document.meta.title} and {first.meta.title} ({first.meta.place}) both route {label}"
                notes.error(ref.place, what, "merge their rules into one")
    _check_delegations(mesh, notes)
    for title, place, host, port in connect_targets(mesh.policies, mesh.directory):
        spoken = {host.ports[number].value for number in host.ports if port in (None, number)} - {"http"}
        if spoken:
            what = f"{title}: CONNECT goes over HTTP/1.1, {host.label} speaks {', '.join(sorted(spoken))}"
            notes.error(place, what, "name a port declared http in meshpy.ports")


def _have_callers_in_common(one: VirtualServiceDoc, other: VirtualServiceDoc) -> bool:
    """Whether a namespace sees both, which then cannot both count."""
    if "*" in one.export_to or "*" in other.export_to:
        return True
    own = one.meta.namespace
    seen, also = ({own if name == "." else name for name in doc.export_to} for doc in (one, other))
    return not seen.isdisjoint(also)


def targets_of(document: VirtualServiceDoc) -> Iterator[DestinationDoc]:
    """Every destination that a VirtualService names, mirrors included."""
    for route in document.http:
        yield from route.destinations
        yield from (mirror.destination for mirror in route.mirrors)
    for routes in (document.tls, document.tcp):
        for each in routes:
            yield from each.destinations


def _check_delegations(mesh: Mesh, notes: Notes) -> None:
    """Istio drops a delegation that does not fit in silence; here it is an error of the pair."""
    documents = mesh.policies.virtual_services
    delegates = delegates_of(documents)
    used: set[tuple[str, str]] = set()
    for document in documents:
        for route in document.http if document.hosts else ():
            if route.delegate is not None:
                used.add((route.delegate.namespace, route.delegate.name))
                for lost in delegation_of(document.meta, route, route.delegate, delegates).lost:
                    notes.error(lost.place, lost.what, lost.instead)
    for key, document in delegates.items():
        if key not in used:
            what = f"{document.meta.title} has no hosts and no VirtualService delegates to it"
            notes.warning(document.meta.place, what, "write hosts:, or delegate: {name: …} in another")


def _check_host(
    document: VirtualServiceDoc, ref: HostRef, host: LogicalHost | None, mesh: Mesh, notes: Notes
) -> None:
    namespace = document.meta.namespace
    if host is None:
        what = f"{document.meta.title}: no service is called {ref.host!r}"
        if any(mesh.directory.resolve(target.host.host, namespace) for target in targets_of(document)):
            instead = f"callers find it only if a service has the label meshpy.host: {ref.host}"
            notes.warning(ref.place, what, f"{instead}; {_hint(mesh.directory, namespace)}")
        elif not any(route.delegate for route in document.http):
            instead = _hint(mesh.directory, namespace)
            notes.missing(ref.place, what, instead, expected=namespace in mesh.directory.namespaces)
        return
    is_own = document.export_to <= {".", namespace}
    if host.namespace not in ("", namespace) and namespace != ROOT_NAMESPACE and not is_own:
        what = f"{document.meta.title}: {host.label} belongs to another stack, whose callers it cannot route"
        instead = f'write exportTo: ["."] for callers of {namespace} only, or namespace: {host.namespace}'
        notes.error(ref.place, what, instead)
    _check_protocols(document, ref, host, notes)


def _check_protocols(document: VirtualServiceDoc, ref: HostRef, host: LogicalHost, notes: Notes) -> None:
    """Routes of a sort that none of the host's ports speaks."""
    protocols = set(host.ports.values())
    if not protocols:
        return
    title = document.meta.title
    if document.http and not host.has_http:
        what = f"{title}: {host.label} has opaque ports only, `http` routes have no effect"
        notes.error(ref.place, what, "write `tcp` routes, or declare http in meshpy.ports")
    if document.tcp and not document.http and not any(each.is_opaque for each in protocols):
        what = f"{title}: {host.label} has HTTP ports only, `tcp` routes have no effect"
        notes.error(ref.place, what, "write `http` routes, or declare tcp in meshpy.ports")
    if document.tls and not protocols & {Protocol.TLS, Protocol.AUTO}:
        what = f"{title}: {host.label} has no port that speaks TLS, `tls` routes have no effect"
        notes.error(ref.place, what, "declare tls in meshpy.ports, or write `http` or `tcp` routes")


def _check_dead_rules(document: VirtualServiceDoc, notes: Notes) -> None:
    """A rule after one without `match` is never reached (IST0130)."""
    for earlier, later in zip(document.http, document.http[1:], strict=False):
        if not earlier.matches and earlier.delegate is None:
            what = f"is never reached: the rule on line {earlier.place.line} takes every request"
            notes.warning(later.place, what, "put the rule without `match` last")
            return


def _check_destination(
    document: VirtualServiceDoc,
    target: DestinationDoc,
    external: _External,
    mesh: Mesh,
    notes: Notes,
) -> None:
    directory, namespace, place = mesh.directory, document.meta.namespace, target.host.place
    host = directory.resolve(target.host.host, namespace) or external.get(target.host.host, namespace)
    expected = namespace in directory.namespaces
    if host is None:
        what = f"{document.meta.title}: no service is called {target.host.host!r}"
        notes.missing(place, what, _hint(directory, namespace), expected=expected)
        return
    ports = [str(port) for port in host.ports]
    if target.port is not None and target.port not in host.ports:
        what = f"{document.meta.title}: {host.label} has no port {target.port}"
        notes.missing(place, what, f"ports {listed(ports)}", expected=True)
    if target.port is None and len(host.ports) > 1:
        what = f"{document.meta.title}: {host.label} has several ports (IST0112)"
        notes.error(place, what, f"write port: {{number: N}}; {listed(ports)}")
    if target.subset:
        rules = rules_for(mesh.rules, host, namespace)
        if subset_named(rules, target.subset) is None:
            names = [subset.name for rule in rules for subset in rule.subsets]
            what = f"{document.meta.title}: no DestinationRule gives {host.label} a subset {target.subset!r}"
            notes.error(
                place, what, f"write a DestinationRule for {target.host.host}; subsets {listed(names)}"
            )


def check_destination_rules(mesh: Mesh, notes: Notes) -> None:
    """Check every DestinationRule: its host, its subsets, and that no two speak of the same thing."""
    external = _External(mesh)
    by_host: dict[tuple[str, str], list[DestinationRuleDoc]] = defaultdict(list)
    for rule in mesh.policies.destination_rules:
        namespace = rule.meta.namespace
        host = mesh.directory.resolve(rule.host.host, namespace) or external.get(rule.host.host, namespace)
        if host is None:
            what = f"{rule.meta.title}: no service is called {rule.host.host!r} (IST0174)"
            expected = namespace in mesh.directory.namespaces
            notes.missing(rule.host.place, what, _hint(mesh.directory, namespace), expected=expected)
            continue
        by_host[namespace, host.label].append(rule)
        _check_callers(rule, mesh, notes)
        check = rule.policy.health_check if rule.policy is not None else None
        if check is not None and host.ports and not any(checks_fit(check, p) for p in host.ports.values()):
            what = f"{rule.meta.title}: no port of {host.label} can answer a check by {check.protocol.value}"
            notes.error(rule.host.place, what, "write healthCheck: {tcp: {}}")
        for subset in rule.subsets:
            if host.entry is not None:
                _check_outside_subset(rule, host.entry, subset, notes)
            elif not selected(mesh.directory, host, subset):
                labels = ", ".join(f"{key}={value}" for key, value in subset.labels.items())
                what = f"{rule.meta.title}: no service behind {host.label} has the labels {labels} (IST0173)"
                members = [str(name) for name in host.services]
                notes.missing(subset.place, what, f"services behind it {listed(members)}", expected=True)
        for port in rule.policy.ports if rule.policy is not None else ():
            if port not in host.ports:
                what = f"{rule.meta.title}: {host.label} has no port {port}"
                notes.missing(rule.host.place, what, listed([str(p) for p in host.ports]), expected=True)
        if any(p is not None and p.proxy_protocol for p in (rule.policy, *(s.policy for s in rule.subsets))):
            _check_proxied(rule, host, mesh, notes)
    for (_, label), rules in by_host.items():
        _check_overlap(label, rules, notes)


def _check_proxied(rule: DestinationRuleDoc, host: LogicalHost, mesh: Mesh, notes: Notes) -> None:
    """A PROXY header goes where one connection of a caller is one connection to a server without sidecar."""
    services = mesh.directory.inventory.services
    if any(not services[name].exempt for name in host.services):
        what = f"{rule.meta.title}: {host.label} has sidecars, which know the caller by its certificate"
        notes.error(rule.host.place, what, "remove `proxyProtocol`")
    elif http := [port for port, protocol in host.ports.items() if protocol.is_http]:
        what = f"{rule.meta.title}: connections to port {http[0]} of {host.label} serve many callers in turn"
        instead = "declare the port tcp, or remove `proxyProtocol`: x-forwarded-for names the client"
        notes.error(rule.host.place, what, instead)


def _check_outside_subset(
    rule: DestinationRuleDoc, entry: ServiceEntryDoc, subset: SubsetDoc, notes: Notes
) -> None:
    if not any(subset.labels.items() <= each.labels.items() for each in entry.endpoints):
        labels = ", ".join(f"{key}={value}" for key, value in subset.labels.items())
        what = f"{rule.meta.title}: no endpoint of {entry.meta.title} has the labels {labels}"
        notes.error(subset.place, what, "write labels of an endpoint")


def _check_callers(rule: DestinationRuleDoc, mesh: Mesh, notes: Notes) -> None:
    """A `workloadSelector` is for callers of the rule's own namespace: one of them should have the labels."""
    if rule.callers is None:
        return
    services = mesh.directory.inventory.services.items()
    own = [service for name, service in services if name.namespace == rule.meta.namespace]
    if not any(rule.callers.items() <= service.labels.items() for service in own):
        labels = ", ".join(f"{key}={value}" for key, value in rule.callers.items())
        what = f"{rule.meta.title}: no service of {rule.meta.namespace} has the labels {labels}"
        instead = f"write labels that a caller has; {listed([str(service.name) for service in own])}"
        notes.missing(
            rule.meta.place, what, instead, expected=rule.meta.namespace in mesh.directory.namespaces
        )


def _check_overlap(label: str, rules: list[DestinationRuleDoc], notes: Notes) -> None:
    for callers in {tuple(sorted((rule.callers or {}).items())): None for rule in rules}:
        same = [rule for rule in rules if tuple(sorted((rule.callers or {}).items())) == callers]
        _check_same_callers(label, same, notes)


def _check_same_callers(label: str, rules: list[DestinationRuleDoc], notes: Notes) -> None:
    seen: dict[str, DestinationRuleDoc] = {}
    first: DestinationRuleDoc | None = None
    for rule in rules:
        if rule.policy is not None and first is not None:
            what = f"{rule.meta.title} and {first.meta.title} both set the trafficPolicy of {label}"
            notes.error(rule.host.place, what, "merge them")
        first = first or (rule if rule.policy is not None else None)
        for subset in rule.subsets:
            other = seen.setdefault(subset.name, rule)
            if other is not rule:
                what = f"{rule.meta.title} and {other.meta.title} both define subset {subset.name} of {label}"
                notes.error(subset.place, what, "keep one of them")
