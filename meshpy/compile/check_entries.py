"""Findings on ServiceEntries: nobody who can call them, ports that disagree, two for one host."""

from __future__ import annotations

from meshpy.compile.check_routes import targets_of
from meshpy.compile.findings import Notes, listed
from meshpy.compile.outside import entries_seen
from meshpy.compile.snapshot import Mesh
from meshpy.policy.mesh_docs import ServiceEntryDoc

__all__ = ["check_service_entries"]


def check_service_entries(mesh: Mesh, notes: Notes) -> None:
    """Check every ServiceEntry."""
    first: dict[tuple[str, str], ServiceEntryDoc] = {}
    routed = {t.host.host for document in mesh.policies.virtual_services for t in targets_of(document)}
    for entry in mesh.policies.service_entries:
        for ref in entry.hosts:
            if mesh.directory.resolve(ref.host, entry.meta.namespace) is not None:
                what = f"{entry.meta.title}: {ref.host} is a service of the mesh"
                notes.error(ref.place, what, "remove it: services are known from Docker")
                continue
            earlier = first.setdefault((entry.meta.namespace, ref.host), entry)
            if earlier is not entry:
                what = f"{entry.meta.title} and {earlier.meta.title} both describe {ref.host}"
                notes.error(ref.place, what, "merge them into one")
            _check_callers(entry, ref.host, mesh, notes, is_routed=ref.host in routed)


def _check_callers(entry: ServiceEntryDoc, host: str, mesh: Mesh, notes: Notes, *, is_routed: bool) -> None:
    place = next(ref.place for ref in entry.hosts if ref.host == host)
    ports = {port.number: port.protocol for port in entry.ports}
    callers = 0
    for service in mesh.directory.inventory.services.values():
        known = entries_seen(mesh.policies.service_entries, service.name.namespace)
        if known.get(host) is not entry:
            continue
        for egress in service.egress:
            if egress.host.lower() != host:
                continue
            callers += 1
            declared = ports.get(egress.port)
            if declared is None:
                what = f"{entry.meta.title}: {service.name} calls {host}:{egress.port}, which it has not"
                notes.warning(place, what, f"add the port; ports {listed([str(p) for p in ports])}")
            elif declared is not egress.protocol:
                what = f"{entry.meta.title}: port {egress.port} is {declared.value} here"
                instead = f"{service.name} says {egress.protocol.value} in meshpy.egress, which counts: agree"
                notes.error(place, what, instead)
    if not callers and not is_routed:
        what = f"{entry.meta.title}: no service can call {host}"
        example = f"{host}:{entry.ports[0].number}/{entry.ports[0].protocol.value}" if entry.ports else host
        notes.warning(place, what, f'add meshpy.egress: "{example}" to a service, or route to it')
