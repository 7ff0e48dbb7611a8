"""Compiling again only what a change can concern gives what compiling everything gives."""

import random
from dataclasses import replace

import pytest

from meshpy.compile import Inputs, compile_changed, compile_mesh
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.inventory import AppAddress, Inventory, Port, Service
from meshpy.model.names import ServiceName
from tests.helpers.policies import document, loaded

STACKS, NAMES = ("shop", "blog", "ops"), ("web", "api", "db", "log")
STEPS = 12
POLICIES = (
    ("NetworkPolicy", ("selector: app == 'api'\ntypes: [Ingress]\ningress:\n- action: Allow\n"
     "  source: {selector: \"tier == 'front'\", namespaceSelector: \"stack == 'blog'\"}")),
    ("NetworkPolicy", "selector: all()\ntypes: [Ingress]\ningress: [{action: Deny}]"),
    ("GlobalNetworkPolicy", ("selector: tier == 'back'\ntypes: [Ingress]\ningress:\n- action: Allow\n"
     "  source: {selector: \"tier == 'front'\"}")),
    ("GlobalNetworkPolicy", ("selector: all()\ntypes: [Egress]\negress:\n- action: Allow\n"
     "  destination: {notSelector: \"tier == 'back'\"}")),
    ("AuthorizationPolicy", ("selector: {matchLabels: {app: web}}\naction: DENY\nrules:\n"
     "- to: [{operation: {paths: ['/x']}}]")),
    ("PeerAuthentication", "mtls: {mode: STRICT}"),
    ("VirtualService", "hosts: [api]\nhttp: [{route: [{destination: {host: api.blog, port: {number: 80}}}]}]"),  # noqa: E501
    ("VirtualService", ("hosts: [web.ops]\nhttp:\n- timeout: 3s\n  route:\n"
     "  - destination: {host: web.ops, port: {number: 80}}")),
    ("DestinationRule", ("host: db.shop\ntrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}\n"
     "subsets: [{name: b, labels: {tier: back}}]")),
    ("HTTPLocalRateLimitPolicy", ("targetRef: {group: core, kind: Service, name: api}\n"
     "total: {requestsPerSecond: 5}")),
    ("NetworkPolicy", ("selector: app == 'db'\ntypes: [Ingress]\ningress:\n- action: Allow\n"
     "  source: {services: {name: web, namespace: ops}}")),
)  # fmt: skip


class World:
    """A mesh that changes step by step."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.services = {}
        for stack in STACKS:
            for name in NAMES:
                if self.dice.random() < 0.8:
                    self.add(ServiceName(stack, name))
        self.policies = {}

    def add(self, name):
        dice = self.dice
        networks = {f"{name.namespace}_default"} | ({"shared"} if dice.random() < 0.2 else set())
        self.services[name] = Service(
            name=name,
            labels={"app": name.name, "stack": name.namespace, "tier": dice.choice(["front", "back"])},
            ports=(Port(dice.choice([80, 8080]), dice.choice([Protocol.HTTP, Protocol.TCP])),),
            hosts=("shared-name",) if dice.random() < 0.3 else (),
            networks=frozenset(networks),
            app=AppAddress(("127.0.0.1",)),
            exempt="no" if dice.random() < 0.15 else "",
        )
        self.move(name)

    def move(self, name):
        count = self.dice.randint(0, 3)
        ends = [
            Endpoint(f"10.0.0.{self.dice.randint(1, 250)}", 15443, name, f"n{number}")
            for number in range(count)
        ]
        self.services[name] = replace(self.services[name], endpoints=tuple(ends))

    def step(self):
        name = ServiceName(self.dice.choice(STACKS), self.dice.choice(NAMES))
        what = self.dice.choice(["move", "move", "add", "remove", "policy", "policy", "unpolicy", "both"])
        if what in ("move", "both") and name in self.services:
            self.move(name)
        if what in ("add", "both"):
            self.add(name)  # or another shape of the one that is there
        if what == "remove":
            self.services.pop(name, None)
        if what in ("policy", "both"):
            number = self.dice.randrange(len(POLICIES))
            kind, spec = POLICIES[number]
            lines = "\n".join(f"  {line}" for line in spec.splitlines())
            space = self.dice.choice(STACKS)
            self.policies[number, space] = document(kind, lines, f"p{number}-{space}", space)
        if what == "unpolicy" and self.policies:
            del self.policies[self.dice.choice(list(self.policies))]


@pytest.mark.parametrize("seed", range(25))
def test_what_is_kept_is_what_would_be_compiled(seed):
    world, before, held = World(seed), None, {}
    policies, texts = loaded(), ()
    compiled = kept = 0
    for revision in range(STEPS):
        world.step()
        if tuple(world.policies.values()) != texts:
            texts = tuple(world.policies.values())
            policies = loaded(*texts)
        inventory = Inventory(dict(world.services))
        inputs = Inputs(inventory, policies, "cluster.local", frozenset(), {})
        before, fresh = compile_changed(before, inputs, revision=revision)
        whole = compile_mesh(inventory, policies, trust_domain="cluster.local", revision=0)
        held = {name: fresh.get(name, held.get(name)) for name in whole}
        compiled, kept = compiled + len(fresh), kept + len(whole) - len(fresh)
        for name, wanted in whole.items():
            assert replace(held[name], revision=0) == replace(wanted, version=""), (revision, name)
    assert kept


def test_a_moved_endpoint_concerns_its_callers_alone():
    world = World(1)
    everyone = {ServiceName(stack, name) for stack in STACKS for name in NAMES}
    world.services = {}
    for name in everyone:
        world.add(name)
        networks = frozenset({f"{name.namespace}_default"})
        world.services[name] = replace(world.services[name], networks=networks, exempt="", hosts=())
    policies = loaded()

    def inputs():
        return Inputs(Inventory(dict(world.services)), policies, "cluster.local", frozenset(), {})

    before, fresh = compile_changed(None, inputs(), revision=1)
    assert fresh.keys() == everyone
    old = world.services[ServiceName("shop", "api")]
    ends = (Endpoint("10.9.9.9", 15443, old.name, "n1"),)
    world.services[old.name] = replace(old, endpoints=ends)
    before, fresh = compile_changed(before, inputs(), revision=1)
    assert {name.namespace for name in fresh} == {"shop"}
    world.add(ServiceName("blog", "new"))
    world.services[ServiceName("blog", "new")] = replace(
        world.services[ServiceName("blog", "new")], networks=frozenset({"blog_default"}), hosts=()
    )
    before, fresh = compile_changed(before, inputs(), revision=1)
    assert {name.namespace for name in fresh} == {"blog"}
    policies = loaded(document("PeerAuthentication", "  mtls: {mode: STRICT}", namespace="ops"))
    _, fresh = compile_changed(before, inputs(), revision=2)
    assert {name.namespace for name in fresh} == {"ops"}
