"""Kubernetes', Calico's and Cilium's policies, from their documents to the verdict, against reference models.

MESHPY_PAIRS sets how many (policy set, call) pairs are tried per language.
"""

import json
import os
import random
from typing import NamedTuple

import pytest

from meshpy.compile.authorization import authorization_for
from meshpy.compile.snapshot import Mesh
from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.egress import EgressAuthorizer
from meshpy.engine.request import Peer, Request
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Inventory, Port, Service
from meshpy.model.names import ServiceName
from meshpy.policy import load
from tests.helpers.policies import VERSIONS
from tests.helpers.wire import value_as_received
from tests.property import reference_network as reference

PAIRS = int(os.environ.get("MESHPY_PAIRS", "7200"))
CALLS_PER_SET = 60


def _service(ns, name, labels):
    ports = (Port(80, Protocol.HTTP), Port(81, Protocol.HTTP), Port(82, Protocol.TCP))
    return Service(ServiceName(ns, name), labels, ports, networks=frozenset({f"{ns}_default"}))


INVENTORY = Inventory(
    {
        service.name: service
        for service in (
            _service("a", "web", {"tier": "front"}),
            _service("a", "api", {"tier": "back"}),
            _service("a", "db", {}),
            _service("b", "web", {"tier": "front", "team": "x"}),
        )
    }
)
NAMES = list(INVENTORY.services)
IPS = ["10.0.0.1", "10.1.0.1", "192.0.2.1"]
NETS = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "0.0.0.0/0"]


class Call(NamedTuple):
    src: dict | None
    dst: dict
    src_ip: str
    port: int
    method: str | None
    path: str | None


def labels_of(name):
    own = INVENTORY.services[name].labels
    given = {"app": name.name, "service": name.name, "stack": name.namespace}
    return {**given, **own, "ns": name.namespace, "name": name.name}


def a_call(rng):
    port = rng.choice([80, 81, 82])
    is_http = port != 82
    src = rng.choice([*NAMES, None])
    return Call(
        labels_of(src) if src else None,
        labels_of(rng.choice(NAMES)),
        rng.choice(IPS),
        port,
        rng.choice(["GET", "POST"]) if is_http else None,
        rng.choice(["/", "/a", "/a/b", "/ab"]) if is_http else None,
    )


def some(rng, make, most=2, least=0):
    return [make(rng) for _ in range(rng.randint(least, most))]


def maybe(rng, **parts):
    """Each part with an even chance."""
    return {key: make(rng) for key, make in parts.items() if rng.random() < 0.5}


# -- generators


def k8s_selector(rng):
    if rng.random() < 0.25:
        return {}
    terms = [
        {"key": "tier", "operator": rng.choice(["In", "NotIn"]), "values": [rng.choice(["front", "back"])]},
        {"key": rng.choice(["tier", "team"]), "operator": rng.choice(["Exists", "DoesNotExist"])},
    ]
    return maybe(
        rng,
        matchLabels=lambda r: {"app": r.choice(["web", "api", "db"])},
        matchExpressions=lambda r: [r.choice(terms)],
    )


def space_selector(rng):
    return rng.choice([{}, {"matchLabels": {"kubernetes.io/metadata.name": rng.choice("ab")}}])


def k8s_peer(rng):
    if rng.random() < 0.3:
        return {"ipBlock": {"cidr": "10.0.0.0/8", **maybe(rng, **{"except": lambda _r: ["10.1.0.0/16"]})}}
    found = maybe(rng, podSelector=k8s_selector, namespaceSelector=space_selector)
    return found or {"podSelector": {}}


def k8s_port(rng):
    entry = maybe(rng, protocol=lambda r: r.choice(["TCP", "UDP"]), port=lambda r: r.choice([80, 81, 82]))
    if "port" in entry and rng.random() < 0.3:
        entry["endPort"] = entry["port"] + 1
    return entry


def k8s_policy(rng, index):
    def rules(word):
        return lambda r: some(
            r, lambda q: maybe(q, **{word: lambda s: some(s, k8s_peer), "ports": lambda s: some(s, k8s_port)})
        )

    spec = {"podSelector": k8s_selector(rng), **maybe(rng, ingress=rules("from"), egress=rules("to"))}
    types = {"Ingress"} | ({"Egress"} if spec.get("egress") else set())
    if rng.random() < 0.3:
        types |= {"Egress"}
        spec["policyTypes"] = sorted(types)
    if "Egress" not in types:
        spec.pop("egress", None)
    return {
        "kind": "NetworkPolicy.networking.k8s.io",
        "ns": rng.choice("ab"),
        "name": f"k{index}",
        "spec": spec,
    }


SELECTORS = [
    ("all()", lambda _l: True),
    ("app == 'web'", lambda x: x.get("app") == "web"),
    ("tier != 'front'", lambda x: x.get("tier") != "front"),
    ("has(tier) && tier not in {'back'}", lambda x: "tier" in x and x["tier"] != "back"),
    ("!has(team) || app starts with 'w'", lambda x: "team" not in x or x.get("app", "").startswith("w")),
    ("app contains 'e' && !(tier == 'back')", lambda x: "e" in x.get("app", "") and x.get("tier") != "back"),
]
SPACES = [
    ("projectcalico.org/name == 'a'", lambda x: x["projectcalico.org/name"] == "a"),
    ("all()", lambda _l: True),
    ("global()", lambda _l: False),
]
SETS = [("a", {"app": "web"}, ["10.1.0.0/16"]), (None, {"tier": "back", "app": "set"}, ["192.0.2.0/24"])]


def calico_entity(rng, is_egress):
    kinds = {
        "selector": lambda r: r.choice(SELECTORS),
        "notSelector": lambda r: r.choice(SELECTORS),
        "namespaceSelector": lambda r: r.choice(SPACES),
        "serviceAccounts": lambda r: [r.choice(["web", "api"])],
    }
    if not is_egress:
        kinds["nets"] = lambda r: [r.choice(NETS)]
        kinds["notNets"] = lambda r: [r.choice(NETS)]
    return {key: kinds[key](rng) for key in rng.sample(sorted(kinds), rng.randint(0, 2))}


def calico_rule(rng, direction):
    is_egress = direction == "egress"
    rule = {"action": rng.choice(["Allow", "Deny", "Log", "Pass"])}
    rule |= maybe(rng, protocol=lambda r: r.choice(["TCP", "TCP", "UDP"]))
    entity = calico_entity(rng, is_egress)
    if entity:
        rule["destination" if is_egress else "source"] = entity
    if rule.get("protocol") == "TCP":
        spans = maybe(rng, ports=lambda r: [r.choice([(80, 80), (80, 81)])], notPorts=lambda _r: [(82, 82)])
        if spans:
            rule["destination"] = {**rule.get("destination", {}), **spans}
    elif rng.random() < 0.2 and "protocol" not in rule:
        rule["notProtocol"] = rng.choice(["UDP", "TCP"])
    if not is_egress and rule["action"] == "Allow" and rng.random() < 0.3:
        paths = [{"prefix": "/a"}, {"exact": "/a"}]
        http = maybe(rng, methods=lambda _r: ["GET"], paths=lambda r: [r.choice(paths)])
        if http:
            rule["http"] = http
    return rule


def calico_policy(rng, index):
    types = rng.choice([["ingress"], ["egress"], ["ingress", "egress"]])
    ns = rng.choice(["a", "b", None])
    return {
        "kind": "NetworkPolicy" if ns else "GlobalNetworkPolicy",
        "ns": ns,
        "name": f"c{index}",
        "tier": rng.choice(["default", "first", "last"]),
        "order": rng.choice([None, 1, 5, 1000]),
        "selector": rng.choice(SELECTORS),
        "types": types,
        **{t: some(rng, lambda r, t=t: calico_rule(r, t), 3) for t in types},
    }


def calico_spec(policy):
    def entity(value):
        shown = dict(value)
        for key in ("selector", "notSelector", "namespaceSelector"):
            if key in shown:
                shown[key] = shown[key][0]
        if "serviceAccounts" in shown:
            shown["serviceAccounts"] = {"names": shown["serviceAccounts"]}
        for key in ("ports", "notPorts"):
            if key in shown:
                shown[key] = [a if a == b else f"{a}:{b}" for a, b in shown[key]]
        return shown

    def rule(value):
        return {k: entity(v) if k in ("source", "destination") else v for k, v in value.items()}

    spec = {"tier": policy["tier"], "selector": policy["selector"][0]}
    spec["types"] = [t.title() for t in policy["types"]]
    if policy["order"] is not None:
        spec["order"] = policy["order"]
    return spec | {t: [rule(r) for r in policy[t]] for t in policy["types"]}


def cilium_selector(rng):
    if rng.random() < 0.3:
        return {"matchLabels": {"io.kubernetes.pod.namespace": rng.choice("ab")}}
    return k8s_selector(rng)


def cilium_rule(rng, word, denies):
    peers = [
        {f"{word}Endpoints": some(rng, cilium_selector, 2, 1)},
        {f"{word}Entities": [rng.choice(["all", "world", "cluster"])]},
        {f"{word}CIDRSet": [{"cidr": "10.0.0.0/8", **maybe(rng, **{"except": lambda _r: ["10.1.0.0/16"]})}]},
        {},
    ]
    rule = dict(rng.choice(peers))
    if rng.random() < 0.6:
        rule["toPorts"] = some(rng, lambda r: cilium_ports(r, denies), 2, 1)
    return rule


def cilium_ports(rng, denies):
    def port(r):
        entry = {"port": r.choice(["80", "81", "82", "0"])}
        entry |= maybe(r, protocol=lambda q: q.choice(["TCP", "UDP", "ANY"]))
        if entry["port"] == "80" and r.random() < 0.3:
            entry["endPort"] = 81
        return entry

    entry = {"ports": some(rng, port, 2, 1)}
    if not denies and rng.random() < 0.5:
        http = lambda r: maybe(  # noqa: E731
            r,
            method=lambda q: q.choice(["GET", "(GET|POST)"]),
            path=lambda q: q.choice(["/a.*", "/", "/a/[a-z]"]),
        )
        entry["rules"] = {"http": some(rng, http, 2, 1)}
    return entry


def cilium_policy(rng, index):
    def rules(word, denies):
        return lambda r: some(r, lambda q: cilium_rule(q, word, denies), 2, 1)

    ns = rng.choice(["a", "b", None])
    spec = {"endpointSelector": k8s_selector(rng)}
    spec |= maybe(rng, ingress=rules("from", False), egress=rules("to", False))
    if rng.random() < 0.3:
        spec["ingressDeny"] = rules("from", True)(rng)
    if rng.random() < 0.2:
        spec["egressDeny"] = rules("to", True)(rng)
    if len(spec) == 1:
        spec["ingress"] = [{}]
    if rng.random() < 0.4:
        spec["enableDefaultDeny"] = maybe(
            rng,
            ingress=lambda _r: "ingress" not in spec and "ingressDeny" not in spec,
            egress=lambda _r: False,
        )
        spec["enableDefaultDeny"] = {
            k: False for k in spec["enableDefaultDeny"] if k in spec or f"{k}Deny" in spec
        }
    kind = "CiliumNetworkPolicy" if ns else "CiliumClusterwideNetworkPolicy"
    return {"kind": kind, "ns": ns, "name": f"l{index}", "spec": spec}


# -- both sides


def text_of(kind, name, ns, spec, labels=None):
    metadata = {"name": name} | ({"namespace": ns} if ns else {}) | ({"labels": labels} if labels else {})
    return json.dumps(
        {"apiVersion": VERSIONS[kind], "kind": kind.partition(".")[0], "metadata": metadata, "spec": spec}
    )


class Meshpy:
    """The product: documents → compiled authorizations → verdicts."""

    def __init__(self, texts):
        mesh = Mesh.of(INVENTORY, load([(f"{i}.json", text) for i, text in enumerate(texts)]))
        auths = {
            name: value_as_received(
                authorization_for(service, mesh.policies, mesh.selection, "cluster.local")
            )
            for name, service in INVENTORY.services.items()
        }
        self.inbound = {name: InboundAuthorizer(auth) for name, auth in auths.items()}
        self.egress = {name: EgressAuthorizer(auth) for name, auth in auths.items()}

    def allows(self, call):
        callee = ServiceName(call.dst["ns"], call.dst["name"])
        request = None
        if call.method is not None:
            request = Request(call.method, call.path, "", callee.name, "http", {})
        peer = Peer(None, "", call.src_ip)
        if call.src is not None:
            caller = ServiceName(call.src["ns"], call.src["name"])
            peer = Peer(caller, f"cluster.local{caller.spiffe_path}", call.src_ip)
            if not self.egress[caller].judge((callee,), (), call.port, request).allowed:
                return False
        protocol = Protocol.TCP if request is None else Protocol.HTTP
        return self.inbound[callee].judge(request, peer, call.port, protocol).allowed


def baseline(call):
    return call.src is not None and call.src["ns"] == call.dst["ns"]


def both_sides(ingress, egress, call):
    if call.src is not None and egress is False:
        return False
    return baseline(call) if ingress is None else ingress


def a_kubernetes_set(rng):
    policies = [k8s_policy(rng, i) for i in range(rng.randint(1, 4))]
    texts = [text_of(p["kind"], p["name"], p["ns"], p["spec"]) for p in policies]
    return texts, lambda call: both_sides(
        reference.k8s(policies, call, "Ingress"), reference.k8s(policies, call, "Egress"), call
    )


def a_calico_set(rng):
    policies = [calico_policy(rng, i) for i in range(rng.randint(1, 5))]
    tiers = {
        "first": (10, rng.choice(["Deny", "Pass"])),
        "last": (rng.choice([None, 2_000_000]), rng.choice(["Deny", "Pass"])),
    }
    sets = SETS if rng.random() < 0.5 else []
    texts = [text_of(p["kind"], p["name"], p["ns"], calico_spec(p)) for p in policies]
    for name, (order, action) in tiers.items():
        spec = {"defaultAction": action} | ({} if order is None else {"order": order})
        texts.append(text_of("Tier", name, None, spec))
    for index, (ns, labels, nets) in enumerate(sets):
        kind = "NetworkSet" if ns else "GlobalNetworkSet"
        texts.append(text_of(kind, f"s{index}", ns, {"nets": nets}, labels))
    return texts, lambda call: both_sides(
        reference.calico(policies, tiers, sets, call, "ingress"),
        reference.calico(policies, tiers, sets, call, "egress"),
        call,
    )


def a_cilium_set(rng):
    policies = [cilium_policy(rng, i) for i in range(rng.randint(1, 4))]
    texts = [text_of(p["kind"], p["name"], p["ns"], p["spec"]) for p in policies]
    return texts, lambda call: both_sides(
        reference.cilium(policies, call, "ingress"), reference.cilium(policies, call, "egress"), call
    )


@pytest.mark.parametrize("make", [a_kubernetes_set, a_calico_set, a_cilium_set])
def test_every_verdict_is_that_of_the_reference(make):
    rng = random.Random(f"{make.__name__} 1")
    counted = {True: 0, False: 0}
    for _ in range(PAIRS // CALLS_PER_SET):
        texts, expected = make(rng)
        product = Meshpy(texts)
        for _ in range(CALLS_PER_SET):
            call = a_call(rng)
            verdict = product.allows(call)
            assert verdict is bool(expected(call)), (call, texts)
            counted[verdict] += 1
    assert min(counted.values()) > PAIRS / 20, "one verdict hardly ever comes up"
