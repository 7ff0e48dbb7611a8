"""All kinds that decide who may call, in one set: from documents to verdicts, against the reference models.

The order is that of the docs: mTLS, the caller's egress, the network stage (tiers; Kubernetes and Cilium at
order 1000 of the tier `default`, denials of theirs first), tokens, DENY, ALLOW. MESHPY_MIXED is how many
pairs of policy set and call are tried.
"""

import os
import random
from typing import NamedTuple

from meshpy.compile import compile_mesh
from meshpy.engine.claims import auth_of
from meshpy.engine.prepared import Prepared
from meshpy.engine.request import Peer, Request
from meshpy.model.endpoint import Protocol
from meshpy.model.names import ServiceName
from meshpy.policy import load
from tests.helpers.random_policies import JWKS
from tests.helpers.wire import mesh_as_received
from tests.property import reference_istio as istio
from tests.property import reference_network as network
from tests.property.test_network_languages import (
    INVENTORY,
    NETS,
    a_call,
    baseline,
    calico_policy,
    calico_spec,
    cilium_policy,
    k8s_policy,
    text_of,
)

PAIRS = int(os.environ.get("MESHPY_MIXED", "10000"))
CALLS = 50
HEADERS = ["admin", "adminx", "user"]


class Call(NamedTuple):
    src: dict | None
    dst: dict
    src_ip: str
    port: int
    method: str | None
    path: str | None
    headers: dict
    claims: dict | None


def full_call(rng):
    bare = a_call(rng)
    headers = (
        {"x-role": [rng.choice(HEADERS) for _ in range(rng.choice([1, 1, 2]))]} if rng.random() < 0.5 else {}
    )
    claims = None
    if rng.random() < 0.5:
        claims = {
            "iss": rng.choice(["i", "j"]),
            "sub": rng.choice(["ann", "bob"]),
            "aud": [rng.choice(["shop", "blog"])],
            "role": rng.sample(["staff", "ops"], rng.randint(0, 2)),
        }
    return Call(*bare, headers, claims)


# -- Istio documents


def some(rng, items, most=2):
    return rng.sample(items, rng.randint(1, most))


def fields(rng, choices, twins):
    names = rng.sample(sorted(choices), rng.randint(1, 2))
    if "serviceAccounts" in names:  # which stand for both
        names = [name for name in names if name not in ("principals", "namespaces")]
    part = {name: some(rng, choices[name]) for name in names}
    twins = [twin for twin in twins if "serviceAccounts" not in names or twin == "ipBlocks"]
    if rng.random() < 0.3 and twins:
        name = rng.choice(twins)
        part[f"not{name[0].upper()}{name[1:]}"] = some(rng, choices[name])
    return part


SOURCES = {
    "principals": ["cluster.local/ns/a/sa/web", "cluster.local/ns/a/*", "*/sa/web", "*"],
    "serviceAccounts": ["web", "api", "b/web"],
    "namespaces": ["a", "b", "*"],
    "requestPrincipals": ["i/ann", "i/*", "*/bob", "*"],
    "ipBlocks": NETS,
}
OPERATIONS = {
    "methods": ["GET", "POST"],
    "paths": ["/a", "/a/*", "*b", "/"],
    "ports": ["80", "81", "82"],
    "hosts": ["web", "a*", "db"],
}
KEYS = {
    "request.headers[x-role]": ["admin", "admin*", "user"],
    "request.auth.claims[role]": ["staff", "ops"],
    "source.namespace": ["a", "b"],
}


def a_condition(rng):
    key = rng.choice(sorted(KEYS))
    return {"key": key, rng.choice(["values", "values", "notValues"]): some(rng, KEYS[key])}


def a_rule(rng):
    rule = {}
    if rng.random() < 0.6:
        twins = ["principals", "namespaces", "requestPrincipals", "ipBlocks"]
        rule["from"] = [{"source": fields(rng, SOURCES, twins)} for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.6:
        twins = ["methods", "paths", "ports"]
        rule["to"] = [{"operation": fields(rng, OPERATIONS, twins)} for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.3:
        rule["when"] = [a_condition(rng) for _ in range(rng.randint(1, 2))]
    return rule


def where(rng, most=1.0):
    """A namespace, and with it whom the document selects."""
    ns = rng.choice(["a", "a", "b", istio.ROOT])
    if ns == istio.ROOT or rng.random() < 0.4 * most:
        return ns, {}
    names = [name.name for name in INVENTORY.services if name.namespace == ns]
    return ns, {"selector": {"matchLabels": {"app": rng.choice(names)}}}


def authorization(rng, index):
    ns, selector = where(rng)
    rules = [a_rule(rng) for _ in range(rng.choice([0, 1, 1, 2]))]
    action = rng.choice([{}, {"action": "ALLOW"}, {"action": "DENY"}, {"action": "AUDIT"}])
    if action.get("action") in ("DENY", "AUDIT") and not rules:
        rules = [{}]
    spec = {**selector, **action, **({"rules": rules} if rules else {})}
    return {"kind": "AuthorizationPolicy", "ns": ns, "name": f"i{index}", "spec": spec,
            "dry_run": rng.random() < 0.1}  # fmt: skip


def peer_authentications(rng):
    """At most one of each level."""
    modes = ["STRICT", "PERMISSIVE", "UNSET"]
    found = [
        (ns, {"mtls": {"mode": rng.choice(modes)}}) for ns in ("a", "b", istio.ROOT) if rng.random() < 0.4
    ]
    if rng.random() < 0.5:
        spec = {"selector": {"matchLabels": {"app": "api"}}, "mtls": {"mode": rng.choice(modes)}}
        if rng.random() < 0.5:
            spec["portLevelMtls"] = {rng.choice([80, 82]): {"mode": rng.choice(modes)}}
        found.append(("a", spec))
    return [
        {"kind": "PeerAuthentication", "ns": ns, "name": f"p{i}", "spec": s}
        for i, (ns, s) in enumerate(found)
    ]


def request_authentication(rng, index):
    ns, selector = where(rng)
    rules = [
        {"issuer": issuer, **({"audiences": ["shop"]} if rng.random() < 0.5 else {})}
        for issuer in some(rng, ["i", "j"])
    ]
    return {
        "kind": "RequestAuthentication",
        "ns": ns,
        "name": f"r{index}",
        "spec": {**selector, "jwtRules": [{**rule, "jwks": JWKS} for rule in rules]},
    }


class Sets(NamedTuple):
    """A policy set of all kinds."""

    k8s: list
    calico: list
    tiers: dict
    cilium: list
    authorization: list
    peers: list
    tokens: list

    def texts(self):
        found = [text_of(p["kind"], p["name"], p["ns"], p["spec"]) for p in (*self.k8s, *self.cilium)]
        found += [text_of(p["kind"], p["name"], p["ns"], calico_spec(p)) for p in self.calico]
        for name, (order, action) in self.tiers.items():
            found.append(text_of("Tier", name, None, {"defaultAction": action, "order": order}))
        for policy in (*self.authorization, *self.peers, *self.tokens):
            text = text_of(policy["kind"], policy["name"], policy["ns"], policy["spec"])
            if policy.get("dry_run"):
                dry = '"annotations": {"istio.io/dry-run": "true"}, "name"'
                text = text.replace('"metadata": {"name"', f'"metadata": {{{dry}', 1)
            found.append(text)
        return found


def a_set(rng):
    calico = [calico_policy(rng, i) for i in range(rng.randint(0, 2))]
    for policy in calico:
        if policy["order"] == 1000:  # the place of Kubernetes' and Cilium's in the tier `default`
            policy["order"] = 1001
    return Sets(
        [k8s_policy(rng, i) for i in range(rng.randint(0, 1))],
        calico,
        {
            "first": (10, rng.choice(["Deny", "Pass"])),
            "last": (2_000_000, rng.choice(["Deny", "Pass"])),
        },
        [cilium_policy(rng, i) for i in range(rng.randint(0, 1))],
        [authorization(rng, i) for i in range(rng.randint(0, 3))],
        peer_authentications(rng),
        [request_authentication(rng, i) for i in range(rng.randint(0, 2))],
    )


# -- the whole, as the docs put the kinds together


def network_verdict(found, call, direction):
    """One side's network stage: tier by tier; in `default` Kubernetes and Cilium have their place."""
    way = direction.lower()
    own = call.dst if way == "ingress" else call.src
    for tier in ("first", "default", "last"):
        applied = network.calico_applied([p for p in found.calico if p["tier"] == tier], own, way)
        before = [p for p in applied if tier != "default" or (p["order"] or 1e9) < 1000]
        action = network.calico_acts(before, [], call, way)
        if action is None and tier == "default":
            action = the_others(found, call, direction)
        if action is None:
            action = network.calico_acts(applied[len(before) :], [], call, way)
        if action in ("Allow", "Deny"):
            return action == "Allow"
        if action is None and tier == "default":
            closed = network.k8s(found.k8s, call, direction) is False
            closed |= network.cilium_closes(found.cilium, call, way)
            if applied or closed:
                return False
        elif action is None and applied and found.tiers[tier][1] == "Deny":
            return False
    return None


def the_others(found, call, direction):
    """Cilium's denials, then whatever either allows."""
    way = direction.lower()
    if network.cilium_denies(found.cilium, call, way):
        return "Deny"
    allowed = network.cilium_allows(found.cilium, call, way) or network.k8s(found.k8s, call, direction)
    return "Allow" if allowed else None


def reference(found, call):
    call = istio.without_reader(found.tokens, call)
    if call.src is None and istio.is_strict(found.peers, call.dst, call.port):
        return False
    if call.src is not None and network_verdict(found, call, "Egress") is False:
        return False
    ingress = network_verdict(found, call, "Ingress")
    if not (baseline(call) if ingress is None else ingress):
        return False
    if call.method is not None and not istio.is_authentic(found.tokens, call):
        return False
    return istio.authorized(found.authorization, call)


class Product:
    def __init__(self, texts, before=None):
        policies = load([(f"{i}.json", text) for i, text in enumerate(texts)])
        snapshots = compile_mesh(INVENTORY, policies, trust_domain="cluster.local", revision=1)
        self.snapshots = mesh_as_received(snapshots, before.snapshots if before else None)
        self.side = Prepared(self.snapshots, with_steps=False)

    def allows(self, call):
        callee = ServiceName(call.dst["ns"], call.dst["name"])
        request, peer = None, Peer(None, "", call.src_ip)
        if call.method is not None:
            auth = None if call.claims is None else auth_of(call.claims)
            request = Request(call.method, call.path, "", callee.name, "http", call.headers, auth)
        if call.src is not None:
            caller = ServiceName(call.src["ns"], call.src["name"])
            peer = Peer(caller, f"cluster.local{caller.spiffe_path}", call.src_ip)
            if not self.side.egress(caller).judge((callee,), (), call.port, request).allowed:
                return False
        protocol = Protocol.TCP if request is None else Protocol.HTTP
        return self.side.judge_inbound(callee, peer, call.port, protocol, request)[0].allowed


def test_sets_of_all_kinds_are_judged_as_the_references_together():
    rng = random.Random("mixed 1")
    counted = {True: 0, False: 0}
    product = None
    for _ in range(PAIRS // CALLS):
        found = a_set(rng)
        product = Product(found.texts(), product)
        for _ in range(CALLS):
            call = full_call(rng)
            verdict = product.allows(call)
            assert verdict is bool(reference(found, call)), (call, found)
            counted[verdict] += 1
    assert min(counted.values()) > PAIRS / 20, "one verdict hardly ever comes up"
