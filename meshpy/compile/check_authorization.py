"""AuthorizationPolicies that cannot be meant: they pick nothing, can never match, or name nobody."""

from __future__ import annotations

from meshpy.compile.attachment import check_attachment
from meshpy.compile.findings import Notes, listed
from meshpy.compile.snapshot import Mesh
from meshpy.model.authz import Action
from meshpy.model.inventory import Service
from meshpy.model.match import Exact
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.policy.kinds import AuthorizationPolicyDoc, AuthorizationRuleDoc, SourceDoc

__all__ = ["check_authorization_policies"]


def check_authorization_policies(mesh: Mesh, notes: Notes) -> None:
    for policy in mesh.policies.authorization_policies:
        _check_policy(policy, mesh, notes)


def _check_policy(policy: AuthorizationPolicyDoc, mesh: Mesh, notes: Notes) -> None:
    selected = check_attachment(policy, mesh.selection, notes)
    if policy.action is not Action.ALLOW and not policy.rules:
        what = f"{policy.meta.title}: {policy.action} without a rule never matches"
        notes.warning(policy.meta.place, what, "write rules: [{}] to match everything")
    for rule in policy.rules:
        _check_rule(policy, rule, selected, notes)
        for source in rule.sources:
            _check_source(source, mesh, notes)


def _check_rule(
    policy: AuthorizationPolicyDoc,
    rule: AuthorizationRuleDoc,
    selected: tuple[Service, ...],
    notes: Notes,
) -> None:
    """An L7 rule on a workload that has opaque ports alone: it allows nothing, or denies everything."""
    if policy.action is Action.AUDIT:
        return
    is_l7 = any(condition.is_l7 for condition in rule.conditions)
    is_l7 |= any(source.is_l7 for source in rule.sources)
    l7_ports = [set(operation.ports) for operation in rule.operations if operation.is_l7 or is_l7]
    if is_l7 and not rule.operations:
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
