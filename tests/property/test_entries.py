"""ServiceEntries, from documents to what a sidecar dials, against a reading of their reference.

MESHPY_ENTRIES is how many sets are tried; each is asked for every host, port and subset.
"""

import json
import os
import random

from meshpy.compile import compile_mesh
from meshpy.engine.request import Request
from meshpy.engine.route import NoRoute, Router
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import EgressHost
from meshpy.model.names import ServiceName
from meshpy.policy import load
from tests.helpers.policies import VERSIONS, service, shop
from tests.helpers.wire import as_received
from tests.property import reference_entries as reference

SETS = int(os.environ.get("MESHPY_ENTRIES", "50"))
NAMED = ["one.test", "two.test"]
HOSTS = [*NAMED, "three.test"]
PORTS = {80: "web", 81: "other"}
SUBSETS = {"": {}, "a": {"v": "a"}, "b": {"v": "b"}}
EGRESS = tuple(EgressHost(host, port, Protocol.HTTP) for host in NAMED for port in PORTS)
INVENTORY = shop(service("caller", egress=EGRESS))
CALLER = ServiceName("shop", "caller")


def endpoint(rng, number, *, is_name):
    found = {"address": f"at{number}.test" if is_name else f"192.0.2.{number}"}
    if rng.random() < 0.4:
        found["ports"] = {rng.choice(list(PORTS.values())): 9000 + number}
    if rng.random() < 0.6:
        found["labels"] = {"v": rng.choice("ab")}
    return found


def an_entry(rng, index, ns, hosts):
    ports = [
        {"number": number, "name": name, "protocol": "HTTP"}
        | ({"targetPort": 8000 + number} if rng.random() < 0.3 else {})
        for number, name in PORTS.items()
    ]
    spec = {"hosts": hosts, "ports": ports}
    resolution = rng.choice([None, "NONE", "DNS", "STATIC", "STATIC"])
    if resolution:
        spec["resolution"] = resolution
    if resolution == "STATIC":
        spec["endpoints"] = [endpoint(rng, n + 1, is_name=False) for n in range(rng.randint(1, 3))]
    if resolution == "DNS" and rng.random() < 0.5:
        spec["endpoints"] = [endpoint(rng, 9, is_name=True)]
    if rng.random() < 0.5:
        spec["exportTo"] = rng.choice([["."], ["*"], ["shop"], ["blog", "."]])
    return {"ns": ns, "name": f"e{index}", "spec": spec}


def a_set(rng):
    """Per namespace each host is described once."""
    found = []
    for ns in ("shop", "blog", "other", reference.ROOT):
        if rng.random() < 0.6:
            hosts = rng.choice([HOSTS, HOSTS[:1], HOSTS[1:], HOSTS[2:]])
            found.append(an_entry(rng, rng.randint(0, 99), ns, hosts))
    return found


def document(kind, ns, name, spec):
    return json.dumps(
        {
            "apiVersion": VERSIONS[kind],
            "kind": kind,
            "metadata": {"name": name, "namespace": ns},
            "spec": spec,
        }
    )


def documents(entries, known):
    """The entries, subsets of every host, and routes that lead to each of `known`."""
    texts = [document("ServiceEntry", e["ns"], e["name"], e["spec"]) for e in entries]
    subsets = [{"name": name, "labels": labels} for name, labels in SUBSETS.items() if name]
    texts += [
        document("DestinationRule", "shop", host, {"host": host, "subsets": subsets})
        for host in {host for host, _, _ in known}
    ]
    routes = [
        {
            "match": [{"uri": {"exact": f"/{host}/{port}/{subset}"}}],
            "route": [
                {
                    "destination": {"host": host, "port": {"number": port}}
                    | ({"subset": subset} if subset else {})
                }
            ],
        }
        for host, port, subset in known
    ]
    if routes:
        texts.append(document("VirtualService", "shop", "v", {"hosts": ["api"], "http": routes}))
    return texts


def dialled(snapshot, name):
    cluster = snapshot.clusters[name]
    if cluster.dns:
        return "dns", cluster.dns, cluster.dns_port
    return tuple((each.address, each.port) for each in cluster.endpoints)


def test_requests_go_where_the_reference_says():
    rng = random.Random("entries 1")
    asked, before = 0, None
    for _ in range(SETS):
        entries = a_set(rng)
        wanted = {
            (host, port, subset): reference.goes(entries, "shop", host, port, labels, is_named=host in NAMED)
            for host in HOSTS
            for port in PORTS
            for subset, labels in SUBSETS.items()
        }
        known = [key for key, goes in wanted.items() if goes is not None]
        policies = load([(f"{i}.json", text) for i, text in enumerate(documents(entries, known))])
        mesh = compile_mesh(INVENTORY, policies, trust_domain="cluster.local", revision=1)
        before = snapshot = as_received(mesh[CALLER], before)
        listener = next(each for each in snapshot.outbound if each.port == 8080)
        router = Router.of_listener(listener)
        for host, port, subset in known:
            path = f"/{host}/{port}/{subset}"
            routing = router.route(Request("GET", path, "", "api:8080", "http", {}), 0.0)
            assert not isinstance(routing, NoRoute), (path, entries)
            found = dialled(snapshot, routing.destination.cluster)
            assert found == wanted[host, port, subset], (path, entries)
            asked += 1
        for host in NAMED:
            for port in PORTS:
                assert dialled(snapshot, f"outbound|{port}||{host}") == wanted[host, port, ""], (
                    host,
                    entries,
                )
                asked += 1
    assert asked > 15 * SETS
