"""Istio's AuthorizationPolicy, PeerAuthentication and RequestAuthentication, each as its documentation reads.

Nothing of meshpy is used. A policy is `ns`, `spec`, `dry_run`. A call has what `reference_network` says, and
`headers` (name → values) and `claims` (of a token with a good signature, None without one).
"""

from tests.property.reference_network import lies_in

ROOT = "mesh-system"
ON_HTTP = {"requestPrincipals", "hosts", "methods", "paths"}


def selected(policies, service):
    """Of the workload, of its namespace, of the mesh."""
    for policy in policies:
        labels = policy["spec"].get("selector", {}).get("matchLabels", {})
        if policy["ns"] in (ROOT, service["ns"]) and all(service.get(k) == v for k, v in labels.items()):
            yield policy


def matches(pattern, text):
    if pattern == "*":
        return text != ""
    if pattern.endswith("*"):
        return text.startswith(pattern[:-1])
    return text.endswith(pattern[1:]) if pattern.startswith("*") else text == pattern


# -- AuthorizationPolicy


def seen(call, name):
    ns, account = (call.src["ns"], call.src["name"]) if call.src else ("", "")
    known = {"namespaces": ns, "ports": str(call.port), "methods": call.method, "paths": call.path}
    known |= {"hosts": call.dst["name"], "serviceAccounts": f"{ns}/{account}"}
    known["principals"] = f"cluster.local/ns/{ns}/sa/{account}" if call.src else ""
    known["requestPrincipals"] = f"{call.claims['iss']}/{call.claims['sub']}" if call.claims else ""
    return known[name]


def part_holds(part, call, denies, ns):
    """One source or operation: all of its fields. Without HTTP an ALLOW never holds, a DENY always."""
    for key, values in part.items():
        name = key[3].lower() + key[4:] if key.startswith("not") else key
        if name in ON_HTTP and call.method is None:
            if not denies:
                return False
            continue
        if name == "ipBlocks":
            met = any(lies_in(call.src_ip, net) for net in values)
        elif name == "serviceAccounts":
            met = seen(call, name) in [v if "/" in v else f"{ns}/{v}" for v in values]
        else:
            met = any(matches(value, seen(call, name)) for value in values)
        if met is key.startswith("not"):
            return False
    return True


def condition_holds(condition, call, denies):
    """Every value of a header must be what an ALLOW wants; for a DENY one is enough."""
    if call.method is None and condition["key"].startswith("request."):
        return denies
    kind, _, name = condition["key"].rstrip("]").partition("[")
    if kind == "request.headers":
        values, many = call.headers.get(name, []), (any if denies else all)
    elif kind == "request.auth.claims":
        values, many = (call.claims or {}).get(name, []), any
    else:
        values, many = [seen(call, "namespaces")], any
    wanted, unwanted = condition.get("values"), condition.get("notValues")
    if wanted and not (values and many(any(matches(p, v) for p in wanted) for v in values)):
        return False
    if not unwanted or not values:
        return True
    bad = [any(matches(p, v) for p in unwanted) for v in values]
    return not all(bad) if denies and kind == "request.headers" else not any(bad)


def policy_holds(policy, call):
    ns, denies = policy["ns"], policy["spec"].get("action") == "DENY"

    def holds(parts, word):
        return not parts or any(part_holds(part[word], call, denies, ns) for part in parts)

    return any(
        holds(rule.get("from"), "source")
        and holds(rule.get("to"), "operation")
        and all(condition_holds(condition, call, denies) for condition in rule.get("when", ()))
        for rule in policy["spec"].get("rules", ())
    )


def authorized(policies, call):
    enforced = [p for p in selected(policies, call.dst) if not p["dry_run"]]
    allow = [p for p in enforced if p["spec"].get("action", "ALLOW") == "ALLOW"]
    if any(policy_holds(p, call) for p in enforced if p["spec"].get("action") == "DENY"):
        return False
    return not allow or any(policy_holds(p, call) for p in allow)


# -- PeerAuthentication: workload, namespace, mesh; UNSET is that of the wider one, PERMISSIVE at last


def is_strict(policies, service, port):
    levels = {"workload": "UNSET", "namespace": "UNSET", "mesh": "UNSET"}
    of_port = "UNSET"
    for policy in selected(policies, service):
        spec, mode = policy["spec"], policy["spec"].get("mtls", {}).get("mode", "UNSET")
        if "selector" in spec:
            levels["workload"], of_port = (
                mode,
                spec.get("portLevelMtls", {}).get(port, {}).get("mode", "UNSET"),
            )
        else:
            levels["mesh" if policy["ns"] == ROOT else "namespace"] = mode
    found = next((m for m in (of_port, *levels.values()) if m != "UNSET"), "PERMISSIVE")
    return found == "STRICT"


# -- RequestAuthentication: a token must be of one of the issuers; none is no failure


def is_authentic(policies, call):
    rules = [rule for policy in selected(policies, call.dst) for rule in policy["spec"]["jwtRules"]]
    if not rules or call.claims is None:
        return True
    return any(
        rule["issuer"] == call.claims["iss"]
        and (not rule.get("audiences") or set(rule["audiences"]) & set(call.claims["aud"]))
        for rule in rules
    )


def without_reader(policies, call):
    """Where nobody reads tokens a request has no claims."""
    return call if any(selected(policies, call.dst)) else call._replace(claims=None)
