"""What RequestAuthentication, PeerAuthentication and MeshConfig say, as frozen values; see `kinds`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshpy.errors import Place
from meshpy.model.authn import JwtRule, MtlsMode
from meshpy.model.ext_authz import ExtAuthz
from meshpy.policy.kinds import NOWHERE, HostRef, Meta, ServiceRef

__all__ = [
    "JwtRuleDoc",
    "MeshConfigDoc",
    "PeerAuthenticationDoc",
    "PortModeDoc",
    "ProviderDoc",
    "RequestAuthenticationDoc",
]


@dataclass(frozen=True, slots=True)
class JwtRuleDoc:
    """One rule, and where its keys come from when they are not in it.

    Args:
        keys_uri: of a key set, or of an OpenID configuration; empty when the rule has its keys.
        timeout_s: for fetching them.
    """

    place: Place
    rule: JwtRule
    keys_uri: str = ""
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class RequestAuthenticationDoc:
    """`selector` None and no `target_refs` is every workload of the namespace."""

    meta: Meta
    rules: tuple[JwtRuleDoc, ...]
    selector: Mapping[str, str] | None = None
    selector_place: Place = NOWHERE
    target_refs: tuple[ServiceRef, ...] = ()


@dataclass(frozen=True, slots=True)
class PortModeDoc:
    """`mode` None is UNSET."""

    port: int
    mode: MtlsMode | None
    place: Place


@dataclass(frozen=True, slots=True)
class PeerAuthenticationDoc:
    """`selector` None: of the namespace, of the mesh in the root namespace; `mode` None is UNSET."""

    meta: Meta
    mode: MtlsMode | None
    ports: tuple[PortModeDoc, ...] = ()
    selector: Mapping[str, str] | None = None
    selector_place: Place = NOWHERE
    target_refs: tuple[ServiceRef, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderDoc:
    """One extension provider.

    Args:
        settings: its cluster is not resolved yet.
        namespace: where a short host is looked for.
    """

    place: Place
    settings: ExtAuthz
    host: HostRef
    namespace: str
    port: int


@dataclass(frozen=True, slots=True)
class MeshConfigDoc:
    """Args:
    trusted_proxies: see `Authorization`.
    """

    meta: Meta
    trusted_proxies: int = 0
    providers: tuple[ProviderDoc, ...] = ()
