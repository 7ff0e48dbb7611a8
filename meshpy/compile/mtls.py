"""Istio PeerAuthentications -> the ports of a workload that callers without identity may not use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshpy.compile.attachment import check_attachment, is_attached
from meshpy.compile.authorization import open_ports
from meshpy.compile.findings import Notes, listed
from meshpy.compile.selection import Selection
from meshpy.model.authn import MtlsMode
from meshpy.model.authz import StrictPort
from meshpy.model.inventory import Service
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.policy import PolicySet
from meshpy.policy.authn_kinds import PeerAuthenticationDoc

__all__ = ["check_peer_authentications", "strict_ports"]


@dataclass(frozen=True, slots=True)
class _Said:
    mode: MtlsMode
    policy: str


def strict_ports(service: Service, policies: PolicySet, selection: Selection) -> tuple[StrictPort, ...]:
    """The ports whose mode is STRICT, by the narrowest policy that says one.

    Port of a workload's policy, the policy itself, namespace, mesh. Where two policies of a level speak of
    one workload, STRICT wins; `check` has refused that before.
    """
    own, spaces, meshes = _levels(service, policies, selection)
    wide = _of(own) or _of(spaces) or _of(meshes)
    found: list[StrictPort] = []
    for port in sorted(service.ports):
        said = _of_port(own, port.number) or wide
        if said is not None and said.mode is MtlsMode.STRICT:
            found.append(StrictPort(port.number, said.policy))
    return tuple(found)


def _levels(
    service: Service, policies: PolicySet, selection: Selection
) -> tuple[list[PeerAuthenticationDoc], list[PeerAuthenticationDoc], list[PeerAuthenticationDoc]]:
    attached = [doc for doc in policies.peer_authentications if is_attached(doc, service.name, selection)]
    attached.sort(key=lambda doc: doc.meta.name)
    own = [doc for doc in attached if doc.selector is not None]
    wide = [doc for doc in attached if doc.selector is None]
    return (
        own,
        [doc for doc in wide if doc.meta.namespace != ROOT_NAMESPACE],
        [doc for doc in wide if doc.meta.namespace == ROOT_NAMESPACE],
    )


def _strictest(said: Sequence[_Said]) -> _Said | None:
    return next((each for each in said if each.mode is MtlsMode.STRICT), said[0] if said else None)


def _of(documents: Sequence[PeerAuthenticationDoc]) -> _Said | None:
    return _strictest([_Said(doc.mode, doc.meta.title) for doc in documents if doc.mode is not None])


def _of_port(documents: Sequence[PeerAuthenticationDoc], port: int) -> _Said | None:
    return _strictest(
        [
            _Said(each.mode, doc.meta.title)
            for doc in documents
            for each in doc.ports
            if each.port == port and each.mode is not None
        ]
    )


def check_peer_authentications(policies: PolicySet, selection: Selection, notes: Notes) -> None:
    """Note policies that pick nothing or contradict each other, and published ports that STRICT closes."""
    for doc in policies.peer_authentications:
        selected = check_attachment(doc, selection, notes)
        known = {port.number for service in selected for port in service.ports}
        for port in doc.ports:
            if selected and port.port not in known:
                what = f"{doc.meta.title}: no selected service has the port {port.port}"
                notes.missing(port.place, what, listed([str(number) for number in known]), expected=True)
    directory = selection.directory
    for _, service in sorted(directory.inventory.services.items()):
        if service.exempt:
            continue
        _check_levels(service, policies, selection, notes)
        exposed = open_ports(service, directory)
        for strict in strict_ports(service, policies, selection):
            if strict.port in exposed:
                _warn_of_closed(service, strict, policies, notes)


def _check_levels(service: Service, policies: PolicySet, selection: Selection, notes: Notes) -> None:
    for documents in _levels(service, policies, selection):
        for second in documents[1:]:
            first = documents[0].meta
            what = f"{second.meta.title} and {first.title} ({first.place}) both decide for {service.name}"
            notes.error(second.meta.place, what, "keep one of them, or make their selectors disjoint")


def _warn_of_closed(service: Service, strict: StrictPort, policies: PolicySet, notes: Notes) -> None:
    place = next(doc.meta.place for doc in policies.peer_authentications if doc.meta.title == strict.policy)
    what = (
        f"{strict.policy}: port {strict.port} of {service.name} is reached from outside the mesh, and STRICT"
        " refuses every caller there"
    )
    instead = f"write portLevelMtls: {{{strict.port}: {{mode: PERMISSIVE}}}} in a policy that selects it"
    notes.warning(place, what, instead)
