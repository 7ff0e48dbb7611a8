"""The partition of addresses by CIDRs: an address for each combination of nets that one can be in."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

__all__ = ["address_classes", "label_of"]

_V4_WITNESS = ipaddress.ip_address("10.0.0.1")


def address_classes(nets: Iterable[str], *, with_v6: bool) -> dict[frozenset[str], str]:
    """The nets that hold → an address in exactly these.

    Args:
        with_v6: callers from outside may have such an address; overlay networks carry IPv4.
    """
    networks = [(text, ipaddress.ip_network(text, strict=False)) for text in dict.fromkeys(nets)]
    candidates = [_V4_WITNESS, ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("0.0.0.0")]
    candidates += [ipaddress.ip_address("2001:db8::1"), ipaddress.ip_address("::")] if with_v6 else []
    for _, network in networks:
        # classes only change where a net begins, or behind its end
        begin, end = int(network.network_address), int(network.broadcast_address)
        make = ipaddress.IPv4Address if network.version == 4 else ipaddress.IPv6Address
        candidates += [make(n) for n in (begin + 1, begin, end + 1) if 0 <= n < 1 << network.max_prefixlen]
    found: dict[frozenset[str], str] = {}
    for address in candidates:
        if address.version == 6 and not with_v6:
            continue
        holding = frozenset(text for text, network in networks if address in network)
        found.setdefault(holding, str(address))
    return found


def label_of(holding: frozenset[str], nets: Iterable[str]) -> str:
    """`10.0.0.0/8 not 10.1.0.0/16`; nets that say nothing more are left out."""
    inside = [ipaddress.ip_network(text) for text in holding]
    narrowest = max(inside, key=lambda net: net.prefixlen, default=None)
    outside = [
        text
        for text in nets
        if text not in holding
        and (narrowest is None or _within(ipaddress.ip_network(text, strict=False), narrowest))
    ]
    words = str(narrowest) if narrowest is not None else "any"
    return f"{words} except {' | '.join(outside)}" if outside else words


def _within(inner: ipaddress.IPv4Network | ipaddress.IPv6Network, outer: object) -> bool:
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False
