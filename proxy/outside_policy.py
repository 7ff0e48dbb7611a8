"""Which hosts outside of the registry a forward proxy lets through (Istio's outboundTrafficPolicy)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from meshpy.errors import MeshpyError

__all__ = ["PROXY_PORT", "ForwardSettings", "OutboundPolicy", "read_forward"]

PROXY_PORT = 15001
_PATTERN = re.compile(r"(\*\.[a-z0-9.-]+):(\d{1,5})")


class OutboundPolicy(StrEnum):
    """As Istio names them."""

    ALLOW_ANY = "ALLOW_ANY"
    REGISTRY_ONLY = "REGISTRY_ONLY"


@dataclass(frozen=True, slots=True)
class ForwardSettings:
    """Args:
    bind: the network on which the app asks, or an IP address.
    patterns: (`*.suffix`, port) that are let through under REGISTRY_ONLY.
    port: where it listens; 0 is `PROXY_PORT`.
    """

    policy: OutboundPolicy
    bind: str
    patterns: tuple[tuple[str, int], ...] = ()
    port: int = 0

    def lets(self, host: str, port: int) -> bool:
        """Whether a host that the registry does not know may be called."""
        if self.policy is OutboundPolicy.ALLOW_ANY:
            return True
        return any(port == p and host.endswith(pattern[1:]) for pattern, p in self.patterns)


def read_forward(policy: str, bind: str, patterns: str) -> ForwardSettings | None:
    """Read the sidecar's environment; None when there is no forward proxy.

    Raises:
        MeshpyError: a value that means nothing.
    """
    if not policy:
        return None
    if policy not in tuple(OutboundPolicy) or not bind:
        raise MeshpyError(
            f"MESHPY_OUTBOUND={policy!r}: write ALLOW_ANY or REGISTRY_ONLY, and MESHPY_OUTBOUND_BIND"
        )
    found = []
    for text in filter(None, patterns.split(",")):
        match = _PATTERN.fullmatch(text)
        if match is None or not 0 < int(match[2]) < 65536:
            raise MeshpyError(f"MESHPY_OUTBOUND_HOSTS: {text!r} is not *.example.com:443")
        found.append((match[1], int(match[2])))
    return ForwardSettings(OutboundPolicy(policy), bind, tuple(found))
