"""Istio RequestAuthentications -> the token rules of one workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from meshpy.compile.attachment import check_attachment, is_attached
from meshpy.compile.findings import Notes
from meshpy.compile.selection import Selection
from meshpy.model.authn import JwtRule
from meshpy.model.names import ServiceName
from meshpy.policy import PolicySet

__all__ = ["check_request_authentications", "jwt_rules_for", "keys_uris"]


def jwt_rules_for(
    workload: ServiceName, policies: PolicySet, selection: Selection, keys: Mapping[str, str]
) -> tuple[JwtRule, ...]:
    """All rules of all policies that attach to it; a rule whose keys are not known yet has none.

    Args:
        keys: URI -> key set, as fetched.
    """
    attached = [doc for doc in policies.request_authentications if is_attached(doc, workload, selection)]
    attached.sort(key=lambda doc: (doc.meta.namespace, doc.meta.name))
    return tuple(
        replace(each.rule, jwks=keys.get(each.keys_uri, "")) if each.keys_uri else each.rule
        for doc in attached
        for each in doc.rules
    )


def keys_uris(policies: PolicySet) -> Mapping[str, float]:
    """Whence keys must be fetched, and how long each fetch may take, in seconds."""
    wanted: dict[str, float] = {}
    for doc in policies.request_authentications:
        for each in doc.rules:
            if each.keys_uri:
                wanted[each.keys_uri] = max(each.timeout_s, wanted.get(each.keys_uri, 0.0))
    return wanted


def check_request_authentications(policies: PolicySet, selection: Selection, notes: Notes) -> None:
    """Note policies that attach to nothing, or to ports that carry no requests."""
    for doc in policies.request_authentications:
        selected = check_attachment(doc, selection, notes)
        if selected and not any(port.protocol.is_http for service in selected for port in service.ports):
            names = ", ".join(str(service.name) for service in selected[:3])
            what = f"{doc.meta.title}: {names} speak no HTTP, so no token is ever seen"
            notes.warning(doc.meta.place, what, "select services with HTTP ports")
