"""Three network policy languages, each in as few lines as its documentation needs. Nothing of meshpy is used.

A service is a dict of its labels with `ns` and `name`; a caller from outside is None. `call` has src, dst,
src_ip, port, method and path (None on an opaque port). Every language says True, False, or None where no
policy decides.
"""

import ipaddress
import re


def lies_in(ip, net):
    return ip is not None and ipaddress.ip_address(ip) in ipaddress.ip_network(net)


# -- Kubernetes NetworkPolicy


def k8s_selects(selector, labels):
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions", ()):
        value, listed = labels.get(term["key"]), term.get("values", ())
        holds = {
            "In": value in listed,
            "NotIn": value not in listed,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[term["operator"]]:
            return False
    return True


def k8s_peer(peer, other, ip, ns):
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return lies_in(ip, block["cidr"]) and not any(lies_in(ip, net) for net in block.get("except", ()))
    if other is None:
        return False
    spaces = peer.get("namespaceSelector")
    in_space = (
        other["ns"] == ns
        if spaces is None
        else k8s_selects(spaces, {"kubernetes.io/metadata.name": other["ns"]})
    )
    return in_space and k8s_selects(peer.get("podSelector", {}), other)


def k8s_port(entry, port):
    if entry.get("protocol", "TCP") != "TCP":
        return False
    return "port" not in entry or entry["port"] <= port <= entry.get("endPort", entry["port"])


def k8s_applies(policy, service, direction):
    spec = policy["spec"]
    types = spec.get("policyTypes", ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
    return policy["ns"] == service["ns"] and direction in types and k8s_selects(spec["podSelector"], service)


def k8s(policies, call, direction):
    own, other, ip, word = (
        (call.dst, call.src, call.src_ip, "from")
        if direction == "Ingress"
        else (call.src, call.dst, None, "to")
    )
    applied = [p for p in policies if own and k8s_applies(p, own, direction)]
    for policy in applied:
        for rule in policy["spec"].get(direction.lower(), ()):
            peers, ports = rule.get(word), rule.get("ports")
            if (not peers or any(k8s_peer(peer, other, ip, policy["ns"]) for peer in peers)) and (
                not ports or any(k8s_port(entry, call.port) for entry in ports)
            ):
                return True
    return False if applied else None


# -- Calico NetworkPolicy, GlobalNetworkPolicy, Tier. Selectors are pairs of their text and a function.


def calico_entity(entity, other, ip, ns, sets):
    """`sets` are (ns or None, labels, nets) of network sets."""
    selector, not_selector, spaces = (entity.get(k) for k in ("selector", "notSelector", "namespaceSelector"))
    if "nets" in entity and not any(lies_in(ip, net) for net in entity["nets"]):
        return False
    if "notNets" in entity and (ip is None or any(lies_in(ip, net) for net in entity["notNets"])):
        return False
    things = [(other, other["ns"], True)] if other else []
    things += [(labels, where, False) for where, labels, nets in sets if any(lies_in(ip, n) for n in nets)]
    if not_selector and any(not_selector[1](labels) for labels, _, _ in things):
        return False
    names = entity.get("serviceAccounts")
    if not (selector or spaces or names or (ns and not_selector)):
        return True
    for labels, where, is_service in things:
        if spaces:
            in_space = spaces[1]({"projectcalico.org/name": where}) if where else spaces[0] == "global()"
        else:
            in_space = not ns or where == ns
        by_name = not names or (is_service and labels["name"] in names)
        if in_space and by_name and (not selector or selector[1](labels)):
            return True
    return False


def calico_rule(rule, direction, call, ns, sets):
    other, ip = (call.src, call.src_ip) if direction == "ingress" else (call.dst, None)
    if rule.get("protocol", "TCP") != "TCP" or rule.get("notProtocol") == "TCP":
        return False
    entity = rule.get("source" if direction == "ingress" else "destination", {})
    ports = rule.get("destination", {})
    if "ports" in ports and not any(a <= call.port <= b for a, b in ports["ports"]):
        return False
    if any(a <= call.port <= b for a, b in ports.get("notPorts", ())):
        return False
    http = rule.get("http")
    if http and call.method is None:
        return False
    if http and http.get("methods") and call.method not in http["methods"]:
        return False
    if (
        http
        and http.get("paths")
        and not any(
            call.path == p.get("exact") or ("prefix" in p and (call.path + "/").startswith(p["prefix"] + "/"))
            for p in http["paths"]
        )
    ):
        return False
    return calico_entity(entity, other, ip, ns, sets)


def calico_applied(policies, own, direction):
    """Those of one tier that select the service, in their order."""
    last = float("inf")
    applied = [
        p
        for p in policies
        if own and p["ns"] in (None, own["ns"]) and p["selector"][1](own) and direction in p["types"]
    ]
    return sorted(
        applied, key=lambda p: (last if p["order"] is None else p["order"], p["name"], p["ns"] or "")
    )


def calico_acts(applied, sets, call, direction):
    """Allow, Deny or Pass; None when no rule acts."""
    for policy in applied:
        for rule in policy[direction]:
            if rule["action"] != "Log" and calico_rule(rule, direction, call, policy["ns"], sets):
                return rule["action"]
    return None


def calico(policies, tiers, sets, call, direction):
    own = call.dst if direction == "ingress" else call.src
    infinite = float("inf")
    order = {"default": 1e6, **{name: infinite if t[0] is None else t[0] for name, t in tiers.items()}}
    for tier in sorted(order, key=lambda name: (order[name], name)):
        applied = calico_applied([p for p in policies if p["tier"] == tier], own, direction)
        action = calico_acts(applied, sets, call, direction)
        if action in ("Allow", "Deny"):
            return action == "Allow"
        if applied and action is None and tiers.get(tier, (None, "Deny"))[1] == "Deny":
            return False
    return None


# -- CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy


def cilium_endpoint(selector, other, ns):
    keys = [*selector.get("matchLabels", {}), *(t["key"] for t in selector.get("matchExpressions", ()))]
    if ns and "io.kubernetes.pod.namespace" not in keys and other["ns"] != ns:
        return False
    return k8s_selects(selector, {**other, "io.kubernetes.pod.namespace": other["ns"]})


def cilium_peer(rule, other, ip, ns, word):
    if f"{word}Endpoints" in rule:
        return other is not None and any(cilium_endpoint(s, other, ns) for s in rule[f"{word}Endpoints"])
    if f"{word}Entities" in rule:
        holds = {"all": True, "world": other is None, "cluster": other is not None}
        return any(holds[entity] for entity in rule[f"{word}Entities"])
    if f"{word}CIDRSet" in rule:
        return other is None and any(
            lies_in(ip, each["cidr"]) and not any(lies_in(ip, net) for net in each.get("except", ()))
            for each in rule[f"{word}CIDRSet"]
        )
    return bool(rule.get("toPorts"))


def cilium_l4(entry, port):
    return not entry.get("ports") or any(
        int(p["port"]) in (0, port) or int(p["port"]) <= port <= p.get("endPort", 0)
        for p in entry["ports"]
        if p.get("protocol", "ANY") in ("ANY", "TCP")
    )


def cilium_l7(entry, call):
    rules = entry.get("rules", {}).get("http")
    return rules is None or any(
        call.method is not None
        and re.fullmatch(rule.get("method", ".*"), call.method)
        and re.fullmatch(rule.get("path", ".*"), call.path)
        for rule in rules
    )


def cilium_rules(policies, call, direction, key):
    """Each rule under `key` that means this call, with its entries of `toPorts` that mean the port."""
    own, other, ip, word = (
        (call.dst, call.src, call.src_ip, "from")
        if direction == "ingress"
        else (call.src, call.dst, None, "to")
    )
    for p in policies:
        if own and p["ns"] in (None, own["ns"]) and cilium_endpoint(p["spec"]["endpointSelector"], own, None):
            if key is None:
                yield p, []
                continue
            for rule in p["spec"].get(key, ()):
                if cilium_peer(rule, other, ip, p["ns"], word):
                    yield p, [e for e in rule.get("toPorts", [{}]) if cilium_l4(e, call.port)]


def cilium_denies(policies, call, direction):
    return any(entries for _, entries in cilium_rules(policies, call, direction, f"{direction}Deny"))


def cilium_allows(policies, call, direction):
    rules = cilium_rules(policies, call, direction, direction)
    return any(cilium_l7(entry, call) for _, entries in rules for entry in entries)


def cilium_closes(policies, call, direction):
    """Whether what no rule allows is refused: a default deny, or the rest of a port with L7 rules."""

    def default(p):
        return p["spec"].get("enableDefaultDeny", {}).get(direction, True)

    allowed = list(cilium_rules(policies, call, direction, direction))
    limited = any(entry.get("rules") for p, entries in allowed if not default(p) for entry in entries)
    chosen = [p for p, _ in cilium_rules(policies, call, direction, None)]
    has = [p for p in chosen if direction in p["spec"] or f"{direction}Deny" in p["spec"]]
    return limited or any(default(p) for p in has)


def cilium(policies, call, direction):
    if cilium_denies(policies, call, direction):
        return False
    if cilium_allows(policies, call, direction):
        return True
    return False if cilium_closes(policies, call, direction) else None
