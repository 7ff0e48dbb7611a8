"""Istio PeerAuthentication: may callers without an identity reach a workload?

Sidecars always speak mTLS to each other. What a mode decides here is the other road: ports that are
published, or reached by services outside the mesh, in plaintext.
Source: istio.io/latest/docs/reference/config/security/peer_authentication.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshpy.model.authn import MtlsMode
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.policy.authn_kinds import PeerAuthenticationDoc, PortModeDoc
from meshpy.policy.kinds import Meta
from meshpy.policy.reader import Cursor, Refusal, no_meaning

__all__ = ["peer_authentication"]

_DISABLE: Refusal = no_meaning(
    "sidecars always speak mTLS to each other",
    "write PERMISSIVE: callers without an identity reach published ports all the same",
)


def peer_authentication(meta: Meta, spec: Cursor) -> PeerAuthenticationDoc:
    """Read `spec`; `{}` says nothing: the mode of the namespace, then of the mesh, then PERMISSIVE."""
    fields = spec.fields(("selector", "mtls", "portLevelMtls"))
    at_selector, at_ports = fields.get("selector"), fields.get("portLevelMtls")
    selector: Mapping[str, str] | None = None
    if at_selector is not None:
        labels = at_selector.fields(("matchLabels",)).get("matchLabels")
        selector = (labels.labels() if labels is not None else {}) or None
    if at_selector is not None and meta.namespace == ROOT_NAMESPACE:
        what = f"Istio ignores a selector in the root namespace {ROOT_NAMESPACE}"
        at_selector.problem(what, "write the policy in the workload's namespace, or remove the selector")
    if at_ports is not None and selector is None:
        at_ports.problem("belongs to a policy with a selector", "write selector: {matchLabels: {app: web}}")
    return PeerAuthenticationDoc(
        meta,
        _mode(fields.get("mtls")),
        _ports(at_ports) if at_ports is not None else (),
        selector,
        at_selector.place if at_selector is not None else spec.place,
    )


def _mode(cursor: Cursor | None) -> MtlsMode | None:
    """None is UNSET: the next wider policy decides."""
    at_mode = cursor.fields(("mode",)).get("mode") if cursor is not None else None
    if at_mode is None:
        return None
    text = at_mode.text()
    if text == "DISABLE":
        at_mode.problem(f"DISABLE {_DISABLE[0]}", _DISABLE[1])
        return None
    value = at_mode.choice(("UNSET", *(mode.value for mode in MtlsMode)))
    return MtlsMode(value) if value in {mode.value for mode in MtlsMode} else None


def _ports(cursor: Cursor) -> tuple[PortModeDoc, ...]:
    found: list[PortModeDoc] = []
    for name, value in cursor.pairs():
        if not (name.isascii() and name.isdecimal() and 0 < int(name[:6]) <= 65535):
            value.problem(f"{name!r} is no port", "write the port of the workload, such as 8080:")
            continue
        found.append(PortModeDoc(int(name), _mode(value), value.place))
    return tuple(found)
