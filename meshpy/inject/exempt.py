"""Which services stay outside of the mesh, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from meshpy.inject.images import CLUSTERS, DOCKER_PROXIES, SCRAPERS, image_name
from meshpy.inject.interpolation import substitute
from meshpy.inject.mentions import Mention
from meshpy.inject.published import Published
from meshpy.inject.topology import Attachment
from meshpy.inject.words import Orders, text_of

__all__ = ["cluster_reasons", "hard_reason", "soft_reason"]

AGENT_MOUNTS = ("/proc", "/sys", "/var/lib/docker", "/var/run", "/dev")


def hard_reason(service: Mapping[str, Any], attachments: Sequence[Attachment]) -> str:
    """Why a service cannot be meshed even if it is told to; empty when it can."""
    for attachment in attachments:
        if attachment.network.full in ("host", "none", "bridge"):
            return f"it sits on the network `{attachment.network.full}`"
        if attachment.network.driver not in ("overlay", ""):
            return f"its network `{attachment.network.key}` has the driver {attachment.network.driver}"
    if text_of(service.get("network_mode")) == "host":
        return "network_mode: host (docker stack ignores it, but its author counts on the host's network)"
    return ""


def soft_reason(orders: Orders, service: Mapping[str, Any], published: Sequence[Published]) -> str:
    """Why a service is not meshed unless `meshpy.enable` says "true"; empty when it is."""
    if orders.enable is False:
        return 'meshpy.enable is "false"'
    if orders.enable is True:
        return ""
    sources = [_source(volume) for volume in service.get("volumes") or ()]
    if any("docker.sock" in source for source in sources):
        return "it mounts the Docker socket"
    other = sorted({port.protocol for port in published} - {"tcp"})
    if other:
        return f"it publishes {' and '.join(other).upper()} ports, which the mesh does not carry"
    image = text_of(service.get("image"))
    known = image_name(substitute(image) or image)
    if known in DOCKER_PROXIES:
        return "a proxy that dials its backends at addresses it gets from Docker"
    if known in SCRAPERS:
        return "it scrapes every task of a name, for which the mesh has one address"
    mode = text_of((service.get("deploy") or {}).get("mode"))
    if mode == "global" and any(_is_agent_mount(source) for source in sources):
        return "an agent on every node that reads the host"
    return ""


def _source(volume: Any) -> str:
    if isinstance(volume, dict):
        return text_of(volume.get("source"))
    text = text_of(volume)
    return (substitute(text) or text).partition(":")[0]


def _is_agent_mount(source: str) -> bool:
    return source == "/" or any(source == mount or source.startswith(f"{mount}/") for mount in AGENT_MOUNTS)


def cluster_reasons(
    services: Mapping[str, Mapping[str, Any]],
    mentions: Mapping[str, Sequence[Mention]],
    names: Mapping[str, str],
    grouped: Collection[str],
) -> dict[str, str]:
    """Services of one clustering image that name each other: peers by address, not clients and servers.

    Args:
        grouped: services that a group holds together in the mesh.
        names: every name by which services are called, lower case -> service.
    """
    calls = {
        name: {names.get(m.host.lower(), "") for m in found} - {"", name} for name, found in mentions.items()
    }
    images = {name: image_name(substitute(text_of(s.get("image"))) or "") for name, s in services.items()}
    reasons: dict[str, str] = {}
    for name, image in images.items():
        peers = sorted(other for other in calls[name] if images[other] == image and name in calls[other])
        if peers and image in CLUSTERS and name not in grouped:
            reasons[name] = f"a cluster of peers that name each other ({', '.join(sorted((name, *peers)))})"
    return reasons
