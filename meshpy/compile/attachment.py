"""Which workloads an Istio policy attaches to: by namespace, selector or named services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from meshpy.compile.findings import Notes, listed
from meshpy.compile.hosts import Directory
from meshpy.compile.selection import Selection
from meshpy.errors import Place
from meshpy.model.inventory import Service
from meshpy.model.names import ROOT_NAMESPACE, ServiceName
from meshpy.policy.kinds import Meta, ServiceRef

__all__ = ["Attached", "attached_services", "check_attachment", "is_attached"]


class Attached(Protocol):
    """A policy with `selector` or `targetRefs`."""

    @property
    def meta(self) -> Meta: ...
    @property
    def selector(self) -> Mapping[str, str] | None: ...
    @property
    def selector_place(self) -> Place: ...
    @property
    def target_refs(self) -> tuple[ServiceRef, ...]: ...


def is_attached(policy: Attached, workload: ServiceName, selection: Selection) -> bool:
    """By namespace (the root's is the whole mesh), then `matchLabels` or `targetRefs`."""
    if policy.target_refs:
        return any(workload in _services_of(ref, selection.directory) for ref in policy.target_refs)
    if policy.meta.namespace not in (workload.namespace, ROOT_NAMESPACE):
        return False
    wanted = policy.selector
    return wanted is None or wanted.items() <= selection.labels_of(workload).items()


def _services_of(ref: ServiceRef, directory: Directory) -> tuple[ServiceName, ...]:
    """A Service of the policy's own namespace; several of ours may stand behind one name."""
    host = directory.resolve(ref.name, ref.namespace)
    return host.services if host is not None and host.namespace == ref.namespace else ()


def attached_services(policy: Attached, selection: Selection) -> tuple[Service, ...]:
    """The meshed services that the policy attaches to, by name."""
    return tuple(
        service
        for name, service in sorted(selection.directory.inventory.services.items())
        if not service.exempt and is_attached(policy, name, selection)
    )


def check_attachment(policy: Attached, selection: Selection, notes: Notes) -> tuple[Service, ...]:
    """Note what the policy attaches to in vain.

    Returns:
        The services that it attaches to.
    """
    selected = attached_services(policy, selection)
    directory, namespace, title = selection.directory, policy.meta.namespace, policy.meta.title
    is_known = namespace in directory.namespaces
    services = [str(name) for name in directory.inventory.services]
    for ref in policy.target_refs:
        if not _services_of(ref, directory):
            what = f"{title}: {namespace} has no service {ref.name}"
            instead = f"write the name of one; {listed(services)}"
            notes.missing(ref.place, what, instead, expected=is_known)
    if selected or policy.target_refs:
        return selected
    if namespace == "istio-system" and not is_known:
        what = f"{title}: there is no namespace istio-system, and the document would apply to nobody"
        notes.error(policy.meta.place, what, f"write {ROOT_NAMESPACE}: it is the root namespace here")
    elif policy.selector is not None:
        labels = ", ".join(f"{key}={value}" for key, value in policy.selector.items())
        what = f"{title}: no service of {namespace} has the labels {labels}"
        instead = f"write labels that a service has; {listed(services)}"
        expected = is_known or namespace == ROOT_NAMESPACE
        notes.missing(policy.selector_place, what, instead, expected=expected)
    else:
        what = f"{title}: the namespace {namespace} has no service"
        notes.warning(policy.meta.place, what, f"namespaces {listed(directory.namespaces)}")
    return selected
