"""What a judgement is: the verdict, the connection it was made on, and the steps that led to it."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from meshpy.engine.match import MatchError
from meshpy.engine.request import Peer
from meshpy.model.match import Exact, PathTemplate, Prefix, Present, Regex, SegmentPrefix, StringMatch, Suffix
from meshpy.model.names import ServiceName

__all__ = [
    "Address",
    "Connection",
    "Step",
    "Verdict",
    "compile_nets",
    "describe",
    "describe_all",
    "parse_address",
]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAMESPACE = re.compile(r"[^/]+/ns/([^/]+)/.*")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and who made it.

    Args:
        stage: `network` (tiers), `baseline`, `deny`, `allow` (Istio), `egress`, or `pending` (staged tiers).
        policy: `NetworkPolicy default/deny-all`; empty when no policy decided.
        rule: `ingress[0]`; empty when the policy decided by having no rule that matched.
        reason: one sentence for a person.
        audited: AUDIT and dry-run policies that matched and Log rules that were passed, `policy rule`.
        pending: what it would be with the staged policies in force; None where none would take part.
    """

    allowed: bool
    stage: str
    policy: str = ""
    rule: str = ""
    reason: str = ""
    audited: tuple[str, ...] = ()
    pending: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One policy or rule that was looked at, in order, and why it did or did not match."""

    stage: str
    policy: str
    rule: str
    action: str
    matched: bool
    why: str


@dataclass(frozen=True, slots=True)
class Connection:
    """What is known of a connection before its first request.

    Args:
        opaque: True when there is no request that an L7 rule could be judged on.
        namespace: of the peer's identity; empty without one.
        ip: the peer's address; None when unknown.
        host: the host outside the mesh that is called; empty for callers and for services.
    """

    service: ServiceName | None
    principal: str
    namespace: str
    ip: Address | None
    port: int
    opaque: bool
    local_ip: Address | None = None
    sni: str = ""
    host: str = ""

    @classmethod
    def of_peer(
        cls, peer: Peer, port: int, *, opaque: bool, local_address: str = "", sni: str = ""
    ) -> Connection:
        namespace = peer.service.namespace if peer.service else ""
        if not namespace and not peer.is_foreign and (found := _NAMESPACE.fullmatch(peer.principal)):
            namespace = found[1]
        return cls(
            service=peer.service,
            principal=peer.principal,
            namespace=namespace,
            ip=parse_address(peer.address),
            port=port,
            opaque=opaque,
            local_ip=parse_address(local_address),
            sni=sni,
        )

    @property
    def caller(self) -> str:
        """The peer as a sentence names it."""
        if self.host:
            return f"{self.host} ({self.ip})" if self.ip else self.host
        if self.service:
            return str(self.service)
        if self.principal:
            return self.principal
        return f"a caller without identity ({self.ip})" if self.ip else "a caller without identity"


@functools.lru_cache(maxsize=4096)
def parse_address(text: str) -> Address | None:
    """An IP address, IPv4-mapped ones as IPv4, scope ids left out; None when it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def compile_nets(nets: Sequence[str]) -> Callable[[Address], bool]:
    """A test whether an address lies in one of the CIDRs.

    Raises:
        MatchError: one is no CIDR.
    """
    try:
        networks = [ipaddress.ip_network(net, strict=False) for net in nets]
    except ValueError as error:
        raise MatchError(f"{error}; write an address or a CIDR such as 10.0.0.0/8") from None
    return lambda address: any(address in network for network in networks)


def describe(match: StringMatch) -> str:
    """The match as a policy would write it."""
    match match:
        case Exact(value=value) | PathTemplate(value=value):
            return value
        case Prefix(value=value):
            return f"{value}*"
        case SegmentPrefix(value=value):
            return f"prefix {value}"
        case Suffix(value=value):
            return f"*{value}"
        case Present():
            return "*"
        case Regex(value=value):
            return f"regex {value}"


def describe_all(matches: Sequence[StringMatch]) -> str:
    return " | ".join(describe(match) for match in matches)
