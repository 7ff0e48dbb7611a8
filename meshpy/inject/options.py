"""What the user can decide about an injection: options of the command, or the root `x-mesh`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["InjectOptions", "Settings"]


@dataclass(frozen=True, slots=True)
class InjectOptions:
    """Options of the command; None leaves the choice to the file, then to the default.

    Args:
        assume: ports of services that the file says nothing about, as if each had the label `meshpy.ports`.
        found: service -> ports that env files and images show, with the evidence (`inject.outside`).
    """

    image: str | None = None
    endpoint_mode: str | None = None
    encrypted: bool | None = None
    trust_domain: str | None = None
    mesh_network: str | None = None
    control_plane: str | None = None
    cache: bool | None = None
    permissive: bool | None = None
    outbound: str | None = None
    egress_gateway: str | None = None
    assume: Mapping[str, str] = field(default_factory=dict)
    found: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """The choices in force for one file.

    Args:
        image: of the sidecars.
        endpoint_mode: of the sidecars; `dnsrr` where the kernel has no IP_VS. "" keeps the app's.
        encrypted: whether pod networks get `encrypted: "true"` (needs ESP in the kernel).
        mesh_network: the external network between sidecars.
        control_plane: HOST:PORT.
        sidecar_environment: further variables of every sidecar.
        cache: whether sidecars keep on a volume what a start without the control plane needs.
        permissive: while callers move: apps keep their networks, ports and proxy labels, and sidecars stand
            beside them there.
        outbound: `ALLOW_ANY` or `REGISTRY_ONLY` gives apps a forward proxy to outside hosts; "" gives none.
        egress_gateway: `STACK/SERVICE` through which sidecars reach hosts outside; "" has them go themselves.
    """

    image: str = "meshpy-proxy:0.1.0"
    endpoint_mode: str = ""
    encrypted: bool = True
    trust_domain: str = "cluster.local"
    mesh_network: str = "mesh"
    control_plane: str = "control-plane:15012"
    sidecar_environment: Mapping[str, str] = field(default_factory=dict)
    cache: bool = False
    permissive: bool = False
    outbound: str = ""
    egress_gateway: str = ""
