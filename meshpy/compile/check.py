"""What compiles and yet cannot be meant, with the line that says it.

A policy may be applied before its stack is deployed, so what a namespace without any service lacks is a
warning. Where the stack is there, a host, port or subset that it has not, and a selector that picks nothing,
are errors: such a policy would guard or route nothing in silence. What is wrong with the stack itself (two
opaque destinations on one address) is a warning: it must not keep an operator from closing a door.
"""

from __future__ import annotations

from meshpy.compile.authentication import check_request_authentications
from meshpy.compile.changed import Compilation
from meshpy.compile.check_authorization import check_authorization_policies
from meshpy.compile.check_entries import check_service_entries
from meshpy.compile.check_gateway import check_gateway_routes
from meshpy.compile.check_ingress import check_gateways
from meshpy.compile.check_network import check_network_policies
from meshpy.compile.check_routes import check_destination_rules, check_virtual_services
from meshpy.compile.findings import Findings, Notes
from meshpy.compile.mtls import check_peer_authentications
from meshpy.compile.providers import check_providers
from meshpy.compile.rate_limits import check_rate_limits
from meshpy.compile.snapshot import Mesh, outbound_of
from meshpy.compile.telemetry import check_telemetry
from meshpy.model.inventory import Inventory
from meshpy.policy import PolicySet

__all__ = ["Findings", "check"]


def check(
    inventory: Inventory,
    policies: PolicySet,
    *,
    strict: bool = True,
    compilation: Compilation | None = None,
) -> Findings:
    """Check policies against what runs, or would run.

    Args:
        compilation: of both, where there is one: what it found is not looked for again.
        strict: False makes warnings of what the inventory has not (hosts, ports, subsets, selections).
    """
    mesh = compilation.mesh if compilation is not None else Mesh.of(inventory, policies)
    notes = Notes(strict=strict)
    check_virtual_services(mesh, notes)
    check_destination_rules(mesh, notes)
    check_gateway_routes(mesh, notes)
    check_gateways(mesh, notes)
    check_network_policies(mesh, notes)
    check_service_entries(mesh, notes)
    check_telemetry(policies, mesh.selection, notes)
    check_rate_limits(policies, mesh.directory, notes)
    check_authorization_policies(mesh, notes)
    check_providers(policies, mesh.selection, notes)
    check_request_authentications(policies, mesh.selection, notes)
    check_peer_authentications(policies, mesh.selection, notes)
    for config in policies.mesh_configs[1:]:
        first = policies.mesh_configs[0].meta
        notes.error(config.meta.place, f"a second MeshConfig, the first is {first.place}", "keep one of them")
    for _, service in sorted(inventory.services.items()):
        if not service.exempt:
            known = compilation.clashes if compilation is not None else None
            for clash in known[service.name] if known is not None else outbound_of(mesh, service)[0].clashes:
                notes.warning(clash.place, clash.what, clash.instead)
    return notes.findings()
