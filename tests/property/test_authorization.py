"""Istio's AuthorizationPolicy, every field of it, against a reference that reads as its documentation."""

import ipaddress
import random

import pytest

from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.claims import RequestAuth
from meshpy.engine.request import Peer, Request
from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Condition,
    Operation,
    Source,
)
from meshpy.model.endpoint import Protocol
from meshpy.model.match import Exact, Prefix, Present, Suffix
from meshpy.model.names import ServiceName
from tests.helpers.wire import value_as_received

SETS, REQUESTS = 1000, 20
SERVICES = [ServiceName("shop", "web"), ServiceName("shop", "api"), ServiceName("blog", "web"), None]
TEXTS = {
    "principals": [f"cluster.local{name.spiffe_path}" for name in SERVICES if name],
    "request_principals": ["i/ann", "i/bob", "j/ann"],
    "namespaces": ["shop", "blog"],
    "hosts": ["api", "api.shop"],
    "methods": ["GET", "POST"],
    "paths": ["/", "/a", "/a/b", "/b"],
    "header": ["x", "xy", "y"],
    "claim": ["x", "xy", "y"],
    "sni": ["p80.api.shop.mesh", "p81.api.shop.mesh"],
}
NETS = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1/32"]
IPS = ["10.0.0.1", "10.1.0.1", "192.0.2.1", ""]
ON_CONNECTION = ("principals", "namespaces", "ports", "ip_blocks", "remote_ip_blocks")


# -- the reference


def holds(match, text):
    match match:
        case Exact(value=value):
            return text == value
        case Prefix(value=value):
            return text.startswith(value)
        case Suffix(value=value):
            return text.endswith(value)
        case Present():
            return text != ""


def one_of(values, wanted, denies=False, header=False):
    """Does any value meet any of `wanted`? A header's must all do so to be allowed something."""
    if isinstance(values, tuple):
        met = [value != "" and any(holds(match, value) for match in wanted) for value in values]
        return bool(met) and (all(met) if header and not denies else any(met))
    return values is not None and any(values in ipaddress.ip_network(net) for net in wanted)


def field(seen, wanted, unwanted, denies, header=False):
    if wanted and not one_of(seen, wanted, denies, header):
        return False
    if not unwanted:
        return True
    if header and denies and seen:
        return any(not one_of((value,), unwanted) for value in seen)
    return denies if seen is None else not one_of(seen, unwanted)


def part(known, item, names, denies, opaque):
    """One source or operation: all of its fields, and their not-twins."""
    for name in names:
        wanted, unwanted = getattr(item, name), getattr(item, f"not_{name}")
        if opaque and name not in ON_CONNECTION:
            if (wanted or unwanted) and not denies:
                return False
        elif not field(known[name], wanted, unwanted, denies):
            return False
    return True


def condition(known, item, denies, opaque):
    is_net = item.key.endswith(".ip")
    values, not_values = ([m.value for m in v] if is_net else v for v in (item.values, item.not_values))
    if opaque and item.key.startswith("request."):
        return denies
    return field(known[item.key], values, not_values, denies, header="headers" in item.key)


def meets(policy, known, opaque):
    denies = policy.action is not Action.ALLOW
    return any(
        (not r.sources or any(part(known, s, FROM, denies, opaque) for s in r.sources))
        and (not r.operations or any(part(known, o, TO, denies, opaque) for o in r.operations))
        and all(condition(known, c, denies, opaque) for c in r.conditions)
        for r in policy.rules
    )


def custom(policies, known):
    return any(p.action is Action.CUSTOM and not p.dry_run and meets(p, known, False) for p in policies)


def reference(policies, known, opaque):
    def matches(policy):
        return meets(policy, known, opaque)

    enforced = [policy for policy in policies if not policy.dry_run]
    allow = [policy for policy in enforced if policy.action is Action.ALLOW]
    refusing = {Action.DENY, Action.CUSTOM} if opaque else {Action.DENY}
    if any(policy.action in refusing and matches(policy) for policy in enforced):
        return False
    return not allow or any(map(matches, allow))


# -- random policies and requests

FROM = ("principals", "request_principals", "namespaces", "ip_blocks", "remote_ip_blocks")
TO = ("hosts", "ports", "methods", "paths")


def some(rng, choices, likely=0.3):
    return tuple(rng.sample(choices, rng.randint(1, 2))) if rng.random() < likely else ()


def matches_of(rng, name, likely=0.3):
    def make(text):
        cut = rng.randint(0, len(text))
        kind = rng.choice([Exact, Exact, Prefix, Suffix, Present])
        if kind is Present:
            return Present()
        return kind(text if kind is Exact else text[:cut] if kind is Prefix else text[cut:])

    return tuple(make(text) for text in some(rng, TEXTS[name], likely))


def fields(rng, names):
    found = {}
    for name in (twin for each in names for twin in (each, f"not_{each}")):
        plain = name.removeprefix("not_")
        likely = 0.1 if name != plain else 0.25
        if plain == "ports":
            found[name] = some(rng, [80, 81], likely)
        elif plain.endswith("ip_blocks"):
            found[name] = some(rng, NETS, likely)
        else:
            found[name] = matches_of(rng, plain, likely)
    return found


KEYS = {
    "request.headers[x]": "header",
    "request.auth.claims[a][b]": "claim",
    "request.auth.audiences": "claim",
    "request.auth.presenter": "claim",
    "request.auth.principal": "request_principals",
    "source.principal": "principals",
    "source.namespace": "namespaces",
    "connection.sni": "sni",
    "source.ip": "",
    "remote.ip": "",
    "destination.ip": "",
    "destination.port": "",
}


def a_condition(rng):
    key = rng.choice(list(KEYS))

    def values(likely):
        if key == "destination.port":
            return some(rng, [Exact("80"), Exact("81")], likely)
        if key.endswith(".ip"):
            return some(rng, [Exact(net) for net in NETS], likely)
        return matches_of(rng, KEYS[key], likely)

    wanted = values(0.7)
    return Condition(key, wanted, values(0.3 if wanted else 1.0))


def a_policy(rng, index):
    rules = tuple(
        AuthorizationRule(
            f"rules[{number}]",
            tuple(Source(**fields(rng, FROM)) for _ in range(rng.choice([0, 0, 1, 2]))),
            tuple(Operation(**fields(rng, TO)) for _ in range(rng.choice([0, 0, 1, 2]))),
            tuple(a_condition(rng) for _ in range(rng.choice([0, 0, 1, 2]))),
        )
        for number in range(rng.choice([0, 1, 2, 3]))
    )
    action = rng.choice([*[Action.ALLOW, Action.DENY] * 2, Action.CUSTOM, Action.AUDIT])
    return AuthorizationPolicy(f"p{index}", action, rules, rng.random() < 0.1, "opa")


def address(text):
    return ipaddress.ip_address(text) if text else None


def a_request(rng, hops):
    """A request with everything that a rule can see of it, under the names of the fields and the keys."""
    service, ip = rng.choice(SERVICES), rng.choice(IPS)
    peer = Peer(service, f"cluster.local{service.spiffe_path}" if service else "", ip)
    port, local, sni = rng.choice([80, 81]), rng.choice(IPS), rng.choice([*TEXTS["sni"], ""])
    headers = {"x": [rng.choice(TEXTS["header"]) for _ in range(rng.randint(0, 2))]}
    hop = [rng.choice(["10.0.0.1", "10.1.0.1", "unknown"]) for _ in range(rng.randint(0, 3))]
    headers["x-forwarded-for"] = [", ".join(hop)] if hop else []
    groups = [rng.choice(["x", "xy", "y", ""]) for _ in range(rng.randint(0, 2))]
    audiences = tuple(rng.sample(["x", "xy", "y"], rng.randint(0, 2)))
    presenter = rng.choice(["x", ""])
    who = rng.choice([*TEXTS["request_principals"], "", None])
    token = None if who is None else RequestAuth(who, audiences, presenter, {"a": {"b": groups}})
    opaque = rng.random() < 0.2
    method, path, host = (rng.choice(TEXTS[name]) for name in ("methods", "paths", "hosts"))
    remote = ip if opaque or len(hop) < hops or not hops else hop[-hops]
    known = {
        "principals": (peer.principal,), "request_principals": (who or "",), "hosts": (host,),
        "namespaces": (service.namespace if service else "",), "methods": (method,), "paths": (path,),
        "ip_blocks": address(ip), "remote_ip_blocks": address("" if remote == "unknown" else remote),
        "ports": (str(port),), "destination.ip": address(local), "connection.sni": (sni,),
        "request.headers[x]": tuple(headers["x"]),
        "request.auth.claims[a][b]": tuple(groups if token else ()),
        "request.auth.audiences": audiences if token else (),
        "request.auth.presenter": (presenter if token else "",),
    }  # fmt: skip
    known |= {"source.ip": known["ip_blocks"], "remote.ip": known["remote_ip_blocks"]}
    known |= {"source.namespace": known["namespaces"], "source.principal": known["principals"]}
    known |= {"request.auth.principal": known["request_principals"], "destination.port": known["ports"]}
    request = None if opaque else Request(method, path, "", host, "http", headers, token)
    return request, (peer, port, Protocol.TCP if opaque else Protocol.HTTP, local, sni), known


def as_texts(policies):
    """Ports as the reference compares them: as texts."""

    def operation(one):
        ports = [tuple(Exact(str(port)) for port in group) for group in (one.ports, one.not_ports)]
        return Operation(
            one.hosts,
            one.not_hosts,
            ports[0],
            ports[1],
            one.methods,
            one.not_methods,
            one.paths,
            one.not_paths,
        )

    return [
        AuthorizationPolicy(
            policy.name,
            policy.action,
            tuple(
                AuthorizationRule(r.name, r.sources, tuple(map(operation, r.operations)), r.conditions)
                for r in policy.rules
            ),
            policy.dry_run,
        )
        for policy in policies
    ]


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_verdicts_are_those_of_the_reference(hops):
    """20,000 pairs of policy set and request, over all fields, keys and both kinds of ports."""
    allowed = 0
    for seed in range(hops, SETS, 3):
        rng = random.Random(seed)
        policies = tuple(a_policy(rng, index) for index in range(rng.randint(1, 3)))
        baseline = frozenset(name for name in SERVICES if name)
        auth = Authorization(
            policies=policies,
            baseline=baseline,
            baseline_external=frozenset({80, 81}),
            trusted_proxies=hops,
        )
        authorizer, readable = InboundAuthorizer(value_as_received(auth)), as_texts(policies)
        for _ in range(REQUESTS):
            request, connection, known = a_request(rng, hops)
            expected = reference(readable, known, request is None)
            verdict = authorizer.judge(request, *connection)
            asks = False if request is None else custom(readable, known)
            judge = authorizer.for_connection(*connection)
            assert verdict.allowed is expected, (seed, request, connection, known, policies)
            assert judge.judge(request) == verdict
            assert request is None or bool(judge.asked(request)) is asks
            assert judge.constant is None or judge.constant == verdict
            assert not (asks and judge.constant is not None and judge.constant.allowed)
            allowed += expected
    assert SETS * REQUESTS / 3 * 0.2 < allowed < SETS * REQUESTS / 3 * 0.8
