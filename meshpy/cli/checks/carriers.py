"""What the nodes carry: packets, virtual addresses, encrypted networks; their clocks and addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meshpy.cli.checks.sending import Probes
from meshpy.cli.checks.site import Record, Site, labels_of
from meshpy.cli.checks.verdict import Check, Verdict, failed, ok, unknown, warning
from meshpy.errors import MeshpyError

__all__ = ["CARRIERS", "are_encrypted", "send_across", "subnets_of"]

PLAIN, SECRET = "plain", "encrypted"
WAIT_S = 40
"""What gossip loses comes with the exchange of whole tables, every 30 s."""
SKEW_S = 30.0
"""Half of how far before its time a certificate is valid (NotBefore −60 s)."""
FULL = 0.9
DEFAULT_POOL = "10.0.0.0/8"
"""In networks of /24: swarmkit's, where `swarm init` named none."""
PORTS = "open UDP 4789, TCP and UDP 7946 and, for encrypted networks, IP protocol 50 between the nodes"

Send = Callable[[Site], Sequence[Record]]


def send_across(begin: Callable[[], Any]) -> Send:
    """One probe per node, on two networks.

    Args:
        begin: `sending.probes`, given all but the moment.
    """

    def send(site: Site) -> Sequence[Record]:
        nodes = len(site.ready_nodes)
        made: Probes
        with begin() as made:
            networks = [made.network(PLAIN, encrypted=False), made.network(SECRET, encrypted=True)]
            given = {"service": made.name, "networks": networks, "peers": nodes, "seconds": WAIT_S}
            service = made.service(made.name, networks, "across", given, everywhere=True)
            told, errors = made.answers(service, nodes, WAIT_S + 20)
        if not told:
            raise MeshpyError(f"no probe answered: {'; '.join(errors)}")
        return [_named(each, networks) for each in told]

    return send


def _named(told: Record, networks: Sequence[str]) -> Record:
    """Networks by what they are, not by the names of this run."""
    reached = dict(zip((PLAIN, SECRET), (told["reached"].get(each, {}) for each in networks), strict=True))
    return {**told, "reached": reached}


def _probed(site: Site) -> Verdict:
    nodes, told = site.ready_nodes, {each["node"] for each in site.across}
    missing = sorted(set(nodes) - told)
    if missing:
        return unknown(
            f"no probe ran on {', '.join(missing)}",
            "have the sidecars' image on every node, or name one: --image",
        )
    return ok(f"{len(nodes)} of {len(nodes)} nodes")


def _reached(told: Record, network: str) -> set[str]:
    return {answer["node"] for answer in told["reached"][network].values() if answer}


def _unreached(site: Site, network: str) -> list[str]:
    """`a -> b` for each node b that node a did not reach."""
    return [
        f"{each['node']} -> {node}"
        for each in site.across
        for node in site.ready_nodes
        if node not in _reached(each, network)
    ]


def _overlay(site: Site) -> Verdict:
    nodes = site.ready_nodes
    deaf = sorted(each["node"] for each in site.across if len(each["reached"][PLAIN]) < len(nodes))
    if deaf:
        told = f"after {WAIT_S} s {', '.join(deaf)} did not know all {len(nodes)} tasks by name (gossip)"
        return failed(told, PORTS)
    missing = _unreached(site, PLAIN)
    if missing:
        return failed(f"no packet came through: {', '.join(missing)}", PORTS)
    return ok("one node: nothing to cross" if len(nodes) == 1 else "every node reached every node")


def _virtual(site: Site) -> Verdict:
    states = {each["node"]: each["virtual"] for each in site.across}
    broken = sorted(node for node, works in states.items() if works is False)
    if not broken:
        return ok() if all(states.values()) else unknown("the service got no virtual address")
    told = f"connections to a virtual address end nowhere on {', '.join(broken)} (no IP_VS in the kernel?)"
    hint = "`endpoint_mode: dnsrr` (--endpoint-mode dnsrr), published ports in host mode; or `modprobe ip_vs`"
    return _grade(
        told, hint, is_needed=_need_virtual(site), is_before=site.is_before, is_off=site.dnsrr_is_wanted
    )


def _encrypted(site: Site) -> Verdict:
    if len(site.ready_nodes) > 1:
        missing = _unreached(site, SECRET)
        told = f"no packet came through an encrypted network: {', '.join(missing)}"
    else:
        missing = [each["node"] for each in site.across if each["esp"] and not each["esp"].startswith("?")]
        told = f"one node, whose kernel takes no ESP state: {', '.join(e['esp'] for e in site.across)}"
        if not missing and any(each["esp"] for each in site.across):
            return unknown(f"one node, and its kernel was not clear: {site.across[0]['esp']}")
    if not missing:
        return ok("sent between all nodes" if len(site.ready_nodes) > 1 else "one node; its kernel takes ESP")
    reasons = sorted({each["esp"] for each in site.across if each["esp"]})
    if len(site.ready_nodes) > 1 and reasons:
        told += f" ({', '.join(reasons)})"
    hint = (
        "`encrypted: false` below x-mesh (--no-encrypt), and app and sidecar on one node where that matters; "
        "or kernels with INET_ESP and IP protocol 50 open between nodes"
    )
    return _grade(
        told, hint, is_needed=_need_esp(site), is_before=site.is_before, is_off=site.plain_is_wanted
    )


def _grade(told: str, hint: str, *, is_needed: bool, is_before: bool, is_off: bool) -> Verdict:
    """What nothing uses is a warning; before an installation it is not known what will be used."""
    if is_needed or (is_before and not is_off):
        return failed(told, hint)
    return ok(f"not needed: {told}") if is_off else warning(f"{told}; nothing deployed needs it", hint)


def _need_virtual(site: Site) -> bool:
    return any((each["Spec"].get("EndpointSpec") or {}).get("Mode", "vip") == "vip" for each in site.sidecars)


def are_encrypted(network: Record) -> bool:
    """dockerd looks for the key alone: `encrypted: "false"` encrypts too."""
    return "encrypted" in (network.get("Options") or {})


def _need_esp(site: Site) -> bool:
    pods = {labels_of(each).get("meshpy.pod") for each in site.sidecars}
    return any(each["Name"] in pods and are_encrypted(each) for each in site.networks)


def _clocks(site: Site) -> Verdict:
    ahead = {
        f"{answer['node']} is {answer['ahead_s']:+.1f} s from {each['node']}": abs(answer["ahead_s"])
        for each in site.across
        for answer in each["reached"][PLAIN].values()
        if answer and answer["node"] != each["node"]
    }
    wrong = [told for told, apart in ahead.items() if apart > SKEW_S]
    if wrong:
        return failed(
            "; ".join(sorted(wrong)), "run an NTP client on every node: certificates are valid by the clock"
        )
    return ok(f"at most {max(ahead.values()):.2f} s apart" if ahead else "one node")


def subnets_of(network: Record) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The address ranges of a network."""
    found = ((network.get("IPAM") or {}).get("Config")) or ()
    return [ipaddress.ip_network(each["Subnet"], strict=False) for each in found if each.get("Subnet")]


def _overlaps(site: Site) -> Verdict:
    ranges = [(each["Name"], subnet) for each in site.networks for subnet in subnets_of(each)]
    if site.subnet and site.network("mesh") is None:
        ranges.append(("mesh (--subnet)", ipaddress.ip_network(site.subnet, strict=False)))
    clashes = [
        f"{one} {a} and {two} {b}"
        for index, (one, a) in enumerate(ranges)
        for two, b in ranges[index + 1 :]
        if a.version == b.version and a.overlaps(b)
    ]
    clashes += [
        f"{name} {subnet} and the address {node['Status']['Addr']} of {node['Description']['Hostname']}"
        for name, subnet in ranges
        for node in site.nodes
        if _has(subnet, node["Status"].get("Addr", ""))
    ]
    hint = "choose another range: `meshpy install --subnet`, or `ipam` of the network"
    return failed("; ".join(clashes), hint) if clashes else ok(f"{len(ranges)} ranges")


def _has(subnet: Any, address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in subnet
    except ValueError:
        return False


def _pools(site: Site) -> Verdict:
    cluster: Mapping[str, Any] = (site.info.get("Swarm") or {}).get("Cluster") or {}
    size = cluster.get("SubnetSize") or 24
    ranges = [ipaddress.ip_network(str(each)) for each in cluster.get("DefaultAddrPool") or (DEFAULT_POOL,)]
    room = sum(1 << max(0, size - each.prefixlen) for each in ranges)
    used = sum(any(s.overlaps(r) for s in subnets_of(each) for r in ranges) for each in site.networks)
    told = (
        f"{used} of {room} networks of /{size} in {', '.join(map(str, ranges))}; a meshed service takes one"
    )
    hint = "a Swarm gets larger pools at `docker swarm init --default-addr-pool` only"
    return warning(told, hint) if used > FULL * room else ok(told)


SECTION = "swarm-network"
NEED = ("swarm-manager",)
CARRIERS = (
    Check(SECTION, "address-overlap", "no two networks share addresses", _overlaps, NEED),
    Check(
        SECTION, "address-pools", "the address pool has room for pod networks", _pools, NEED, is_advisory=True
    ),
    Check(SECTION, "probe-tasks", "a probe runs on every node", _probed, NEED),
    Check(SECTION, "overlay", "overlay networks carry packets between nodes", _overlay, ("probe-tasks",)),
    Check(SECTION, "ipvs", "virtual addresses lead to their tasks (IP_VS)", _virtual, ("probe-tasks",)),
    Check(SECTION, "esp", "encrypted networks carry packets (ESP)", _encrypted, ("probe-tasks",)),
    Check(SECTION, "clocks", "the nodes' clocks agree", _clocks, ("probe-tasks",)),
)
