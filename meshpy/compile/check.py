"""What compiles and yet cannot be meant, with the line that says it.

A policy may be applied before its stack is deployed, so what a namespace without any service lacks is a
warning. Where the stack is there, a host, port or subset that it has not, and a selector that picks nothing,
are errors: such a policy would guard or route nothing in silence. What is wrong with the stack itself (two
opaque destinations on one address) is a warning: it must not keep an operator from closing a door.
"""

from __future__ import annotations

from meshpy.compile.authorization import is_selected
from meshpy.compile.check_network import check_network_policies
from meshpy.compile.check_routes import check_destination_rules, check_virtual_services
from meshpy.compile.findings import Findings, Notes, listed
from meshpy.compile.selection import Selection
from meshpy.compile.snapshot import Mesh, outbound_of
from meshpy.model.authz import Action
from meshpy.model.inventory import Inventory, Service
from meshpy.model.match import Exact
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.policy import PolicySet
from meshpy.policy.kinds import AuthorizationPolicyDoc, AuthorizationRuleDoc, SourceDoc

__all__ = ["Findings", "check"]


def check(inventory: Inventory, policies: PolicySet, *, strict: bool = True) -> Findings:
    """Check policies against what runs, or would run.

    Args:
        strict: False makes warnings of what the inventory has not (hosts, ports, subsets, selections).
    """
    mesh = Mesh.of(inventory, policies)
    notes = Notes(strict=strict)
    check_virtual_services(mesh, notes)
    check_destination_rules(mesh, notes)
    check_network_policies(mesh, notes)
    for policy in policies.authorization_policies:
        _check_authorization(policy, mesh, notes)
    for _, service in sorted(inventory.services.items()):
        if not service.exempt:
            for clash in outbound_of(mesh, service)[0].clashes:
                notes.warning(clash.place, clash.what, clash.instead)
    return notes.findings()


def _check_authorization(policy: AuthorizationPolicyDoc, mesh: Mesh, notes: Notes) -> None:
    selected = _selected(policy, mesh.directory.inventory, mesh.selection)
    namespace = policy.meta.namespace
    if not selected:
        is_known = namespace in mesh.directory.namespaces
        if policy.selector is not None:
            labels = ", ".join(f"{key}={value}" for key, value in policy.selector.items())
            what = f"{policy.meta.title}: no service of {namespace} has the labels {labels}"
            services = [str(name) for name in mesh.directory.inventory.services]
            notes.missing(
                policy.selector_place,
                what,
                f"write labels that a service has; {listed(services)}",
                expected=is_known or namespace == ROOT_NAMESPACE,
            )
        else:
            what = f"{policy.meta.title}: the namespace {namespace} has no service"
            notes.warning(policy.meta.place, what, f"namespaces {listed(mesh.directory.namespaces)}")
    if policy.action is not Action.ALLOW and not policy.rules:
        what = f"{policy.meta.title}: {policy.action} without a rule never matches"
        notes.warning(policy.meta.place, what, "write rules: [{}] to match everything")
    for rule in policy.rules:
        _check_rule(policy, rule, selected, notes)
        for source in rule.sources:
            _check_source(source, mesh, notes)


def _selected(
    policy: AuthorizationPolicyDoc, inventory: Inventory, selection: Selection
) -> tuple[Service, ...]:
    return tuple(
        service
        for name, service in sorted(inventory.services.items())
        if not service.exempt and is_selected(policy, name, selection)
    )


def _check_rule(
    policy: AuthorizationPolicyDoc,
    rule: AuthorizationRuleDoc,
    selected: tuple[Service, ...],
    notes: Notes,
) -> None:
    """An L7 rule on a workload that has opaque ports alone: it allows nothing, or denies everything."""
    if policy.action is Action.AUDIT:
        return
    headers = any(condition.key.startswith("request.") for condition in rule.conditions)
    l7_ports = [set(operation.ports) for operation in rule.operations if operation.is_l7 or headers]
    if headers and not rule.operations:
        l7_ports = [set()]
    for service in selected:
        opaque = {port.number for port in service.ports if not port.protocol.is_http}
        if not service.ports or len(opaque) < len(service.ports):
            continue
        if any(not ports or ports & opaque for ports in l7_ports):
            effect = "never matches" if policy.action is Action.ALLOW else "closes the port"
            what = f"{policy.meta.title}: {service.name} has opaque ports only, there this L7 rule {effect}"
            instead = "declare http in meshpy.ports, select other services, or name ports instead"
            notes.error(rule.place, what, instead)


def _check_source(source: SourceDoc, mesh: Mesh, notes: Notes) -> None:
    """Identities that nobody has: a caller may come later, so they are warnings."""
    services = {str(name) for name in mesh.directory.inventory.services}
    for namespace, name in (*source.service_accounts, *source.not_service_accounts):
        if namespace in mesh.directory.namespaces and f"{namespace}/{name}" not in services:
            notes.warning(source.place, f"no service {namespace}/{name} is known", listed(services))
    for match in (*source.namespaces, *source.not_namespaces):
        if isinstance(match, Exact) and match.value not in {*mesh.directory.namespaces, ROOT_NAMESPACE}:
            what = f"no namespace {match.value} is known"
            notes.warning(source.place, what, f"namespaces {listed(mesh.directory.namespaces)}")
    for match in (*source.principals, *source.not_principals):
        parts = match.value.split("/") if isinstance(match, Exact) else []
        if len(parts) != 5 or parts[1] != "ns" or parts[3] != "sa":
            continue
        if parts[2] in mesh.directory.namespaces and f"{parts[2]}/{parts[4]}" not in services:
            notes.warning(source.place, f"no service {parts[2]}/{parts[4]} is known", listed(services))
