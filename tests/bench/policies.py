"""How long policies take: compiling 1,000 of all kinds over 300 services, one verdict among 500 rules.

Prints CPU time, asserts nothing: `python -m tests.bench.policies`.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable

from meshpy.compile import check, compile_mesh
from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.request import Peer, Request
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.inventory import Inventory, Port, Service
from meshpy.model.names import ServiceName
from meshpy.policy import load
from tests.helpers.policies import VERSIONS

SERVICES, STACKS, POLICIES, RULES = 300, 10, 1000, 500


def inventory() -> Inventory:
    """300 services in ten stacks, each stack on one network."""
    services = {}
    for number in range(SERVICES):
        name = ServiceName(f"stack{number % STACKS}", f"svc{number}")
        services[name] = Service(
            name,
            {"tier": f"t{number % 7}", "team": f"m{number % 13}"},
            (Port(8080, Protocol.HTTP), Port(9090, Protocol.TCP)),
            networks=frozenset({f"{name.namespace}_default"}),
            endpoints=(Endpoint(f"10.0.{number // 250}.{number % 250 + 1}", 15443, name),),
        )
    return Inventory(services)


def text(kind: str, number: int, spec: object) -> str:
    """One document as JSON, which is YAML."""
    metadata = {"name": f"p{number}", "namespace": f"stack{number % STACKS}"}
    if kind in ("GlobalNetworkPolicy", "CiliumClusterwideNetworkPolicy"):
        del metadata["namespace"]
    return json.dumps(
        {"apiVersion": VERSIONS[kind], "kind": kind.partition(".")[0], "metadata": metadata, "spec": spec}
    )


def documents(count: int) -> list[tuple[str, str]]:
    """A mix of kinds, most of them for one service or one tier."""
    made = []
    for number in range(count):
        service, peer = f"svc{number % SERVICES}", f"svc{(number + STACKS) % SERVICES}"
        host = {
            "hosts": [service],
            "http": [{"route": [{"destination": {"host": service, "port": {"number": 8080}}}]}],
        }
        select = {"endpointSelector": {"matchLabels": {"app": service}}}
        http = {"ports": [{"port": "8080"}], "rules": {"http": [{"method": "GET", "path": "/v1/.*"}]}}
        kinds = [
            ("AuthorizationPolicy", {
                "selector": {"matchLabels": {"app": service}},
                "rules": [{
                    "from": [{"source": {"serviceAccounts": [peer]}}],
                    "to": [{"operation": {"paths": ["/v1/*"]}}],
                }],
            }),
            ("NetworkPolicy", {
                "selector": f"app == '{service}'",
                "ingress": [{"action": "Allow", "source": {"selector": f"tier == 't{number % 7}'"}}],
            }),
            ("GlobalNetworkPolicy", {
                "selector": f"team == 'm{number % 13}'",
                "ingress": [{"action": "Pass", "source": {"selector": f"team == 'm{number % 11}'"}}],
            }),
            ("NetworkPolicy.networking.k8s.io", {
                "podSelector": {"matchLabels": {"app": service}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"tier": f"t{number % 7}"}}}]}],
            }),
            ("CiliumNetworkPolicy", {**select, "ingress": [{"fromEndpoints": [{}], "toPorts": [http]}]}),
            ("VirtualService", host),
        ]  # fmt: skip
        kind, spec = kinds[number % len(kinds)]
        made.append((f"{number}.json", text(kind, number, spec)))
    return made


def timed(label: str, work: Callable[[], object]) -> object:
    """Run once and print how long it took."""
    begin = time.process_time()
    result = work()
    print(f"{label:58} {time.process_time() - begin:8.3f} s")
    return result


def per_call(label: str, call: Callable[[], object], seconds: float = 0.5) -> None:
    """Print the mean of many calls."""
    count, begin = 0, time.process_time()
    while time.process_time() - begin < seconds:
        for _ in range(1000):
            call()
        count += 1000
    print(f"{label:58} {(time.process_time() - begin) / count * 1e6:8.2f} µs")


def main() -> None:
    """Print every number."""
    services, texts = inventory(), documents(POLICIES)
    policies = timed(f"read {POLICIES} documents", lambda: load(texts))
    timed(f"check them over {SERVICES} services", lambda: check(services, policies))
    for name, count in (("compile", POLICIES), ("compile none", 0)):
        chosen = load(texts[:count])
        compiled = lambda chosen=chosen: compile_mesh(services, chosen, trust_domain="d", revision=1)  # noqa: E731
        timed(f"{name}: {count} policies, {SERVICES} services", compiled)
    rules = [
        {
            "from": [{"source": {"serviceAccounts": [f"stack0/svc{n}"]}}],
            "to": [{"operation": {"methods": ["GET"], "paths": [f"/v1/r{n}/*"]}}],
        }
        for n in range(RULES)
    ]
    few = [{"to": [{"operation": {"methods": ["GET"], "paths": [f"/v1/r{n}/*"]}}]} for n in range(RULES)]
    network = [
        {"action": "Allow", "http": {"methods": ["GET"], "paths": [{"prefix": f"/v1/r{n}"}]}}
        for n in range(RULES)
    ]
    peer = Peer(ServiceName("stack0", "svc250"), "d/ns/stack0/sa/svc250", "10.0.1.1")
    request = Request("GET", "/v1/r250/x", "", "svc0:8080", "http", {})
    for label, kind, spec in (
        ("500 AuthorizationPolicy rules by caller and path", "AuthorizationPolicy", {"rules": rules}),
        ("500 AuthorizationPolicy rules by path", "AuthorizationPolicy", {"rules": few}),
        ("500 NetworkPolicy rules by path", "NetworkPolicy", {"ingress": network}),
    ):
        mesh = compile_mesh(services, load([("a.json", text(kind, 0, spec))]), trust_domain="d", revision=1)
        judge = InboundAuthorizer(mesh[ServiceName("stack0", "svc0")].authorization, "d")
        on = judge.for_connection(peer, 8080, Protocol.HTTP)
        assert on.judge(request).allowed, on.judge(request)
        per_call(f"{label}, hit in the middle", lambda on=on: on.judge(request))
        fresh = Peer(peer.service, peer.principal, "10.0.1.2")
        ask = functools.partial(judge.for_connection, fresh, 8080, Protocol.HTTP)
        timed(f"{label}, first connection of a caller", ask)


if __name__ == "__main__":
    main()
