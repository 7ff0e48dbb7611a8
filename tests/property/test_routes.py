"""VirtualService, HTTPRoute and GRPCRoute, from document to decision, against readings of their references.

Each example is a random set of documents, read, compiled for a caller and asked; the reference looks at the
documents themselves. MESHPY_EXAMPLES=1000 for a long run; one example asks REQUESTS times, so that a run of
`make test` compares some 5,000 decisions.
"""

import json
import os
import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from meshpy.compile.snapshot import Mesh, outbound_of
from meshpy.engine.request import Request
from meshpy.engine.route import NoRoute, Router
from meshpy.model.names import ServiceName
from meshpy.policy import load
from tests.helpers.policies import shop
from tests.helpers.wire import value_as_received

EXAMPLES = int(os.environ.get("MESHPY_EXAMPLES", "60"))
REQUESTS = 40
INVENTORY = shop()
WEB = INVENTORY.services[ServiceName("shop", "web")]
PATHS = ["/", "/a", "/a/", "/A", "/ab", "/a/b", "/a/bc", "/b"]
NAMES, VALUES = ["x", "y"], ["1", "12", "2"]
paths, names, values = st.sampled_from(PATHS), st.sampled_from(NAMES), st.sampled_from(VALUES)
METHODS = st.sampled_from(["GET", "POST"])


def some(fields):
    """A mapping with any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


seeds = st.integers(0, 2**16)


def drawn(seed):
    """Requests by a generator of its own: hypothesis would shrink each of them."""
    draw = random.Random(seed)
    for _ in range(REQUESTS):
        headers, query = ({n: draw.choice(VALUES) for n in NAMES if draw.random() < 0.5} for _ in "hq")
        authority = draw.choice(["api.shop:8080", "api", "API.shop"])
        yield draw.choice(["GET", "POST"]), draw.choice(PATHS), headers, query, authority


def asked(request):
    method, path, headers, query, authority = request
    text = "&".join(f"{name}={value}" for name, value in query.items())
    return Request(method, path, text, authority, "http", {k: [v] for k, v in headers.items()})


def decided(documents, requests):
    """Which rule the compiled routes of `web` choose for each request: (document, rule) or None."""
    policies = load([("p.yml", "\n---\n".join(map(json.dumps, documents)))])
    outbound = outbound_of(Mesh.of(INVENTORY, policies), WEB)[0].outbound
    listener = value_as_received(next(one for one in outbound if one.port == 8080))
    router = Router.of_listener(listener)
    for request in requests:
        routing = router.route(asked(request), 0.0)
        yield None if isinstance(routing, NoRoute) else (routing.rule.policy, routing.rule.name)


# -- VirtualService: the first rule of which any match holds


def strings(texts):
    regexes = st.sampled_from(["/a.*", "[0-9]+", "/A?", "1|2"])
    return st.one_of(
        *(st.fixed_dictionaries({k: v}) for k, v in (("exact", texts), ("prefix", texts), ("regex", regexes)))
    )


headers = st.dictionaries(names, strings(values) | st.just({}), min_size=1, max_size=2)
matches = some(
    {
        "uri": strings(paths).filter(lambda m: "regex" not in m),
        "method": strings(METHODS),
        "authority": strings(st.sampled_from(["api", "api.shop:8080", "api.shop"])),
        "headers": headers,
        "withoutHeaders": headers,
        "queryParams": headers,
        "port": st.sampled_from([8080, 81]),
        "sourceLabels": st.sampled_from([{"tier": "back"}]),
        "sourceNamespace": st.sampled_from(["shop", "blog"]),
        "ignoreUriCase": st.booleans(),
    }
)
vs_rules = st.lists(st.lists(matches, max_size=3), min_size=1, max_size=12)


def says(match, text, fold=str):
    """Istio's StringMatch; an empty one is presence."""
    if text is None:
        return False
    ((kind, value),) = match.items() or (("prefix", ""),)
    if kind == "regex":
        return re.fullmatch(value, text) is not None
    value, text = fold(value), fold(text)
    return text == value if kind == "exact" else text.startswith(value)


def vs_match(match, request):
    method, path, headers, query, authority = request
    low = authority.lower()
    return all(
        (
            says(match.get("uri", {}), path, str.lower if match.get("ignoreUriCase") else str),
            says(match.get("method", {}), method),
            any(says(match.get("authority", {}), name) for name in (low, low.partition(":")[0])),
            all(says(m, headers.get(n)) for n, m in match.get("headers", {}).items()),
            not any(says(m, headers.get(n)) for n, m in match.get("withoutHeaders", {}).items()),
            all(says(m, query.get(n)) for n, m in match.get("queryParams", {}).items()),
            match.get("port", 8080) == 8080,
            not match.get("sourceLabels"),  # web has no label `tier`
            match.get("sourceNamespace", "shop") == "shop",
        )
    )


def vs_reference(rules, request):
    for number, alternatives in enumerate(rules):
        if not alternatives or any(vs_match(match, request) for match in alternatives):
            return "VirtualService shop/p", f"r{number}"
    return None


@settings(max_examples=EXAMPLES)
@given(vs_rules, seeds)
def test_a_virtual_service_routes_as_its_reference_says(rules, seed):
    http = [
        {"name": f"r{n}", "route": [{"destination": {"host": "api"}}], **({"match": m} if m else {})}
        for n, m in enumerate(rules)
    ]
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"hosts": ["api"], "http": http},
    }
    requests = list(drawn(seed))
    for request, found in zip(requests, decided([document], requests), strict=True):
        assert found == vs_reference(rules, request), request


# -- HTTPRoute: the most specific match of all routes


def listed():
    return st.dictionaries(names, values, min_size=1, max_size=2).map(
        lambda found: [{"name": name, "value": value} for name, value in found.items()]
    )


path_matches = st.fixed_dictionaries(
    {"type": st.sampled_from(["Exact", "PathPrefix"]), "value": paths}
) | st.fixed_dictionaries({"type": st.just("RegularExpression"), "value": st.sampled_from(["/a.*", "/[ab]"])})
route_matches = some({"path": path_matches, "method": METHODS, "headers": listed(), "queryParams": listed()})
routes = st.lists(
    st.lists(st.lists(route_matches, max_size=3), min_size=1, max_size=4), min_size=1, max_size=4
)


def route_match(match, request):
    method, path, headers, query, _ = request
    wanted = match.get("path") or {"type": "PathPrefix", "value": "/"}
    kind, value = wanted["type"], wanted["value"]
    by_path = {
        "Exact": path == value,
        "PathPrefix": (path + "/").startswith(value.rstrip("/") + "/"),
        "RegularExpression": re.fullmatch(value, path) is not None,
    }[kind]
    return (
        by_path
        and match.get("method", method) == method
        and all(headers.get(h["name"]) == h["value"] for h in match.get("headers", ()))
        and all(query.get(q["name"]) == q["value"] for q in match.get("queryParams", ()))
    )


def specificity(match):
    """Gateway API: the greater wins."""
    path = match.get("path") or {"type": "PathPrefix", "value": "/"}
    sort = ["PathPrefix", "RegularExpression", "Exact"].index(path["type"])
    size = (len(match.get("headers", ())), len(match.get("queryParams", ())))
    return (sort, len(path["value"]), "method" in match, *size)


def route_reference(routes, request):
    best, chosen = None, None
    for name, rules in enumerate(routes):  # in the order of their names, then of the rules
        for number, alternatives in enumerate(rules):
            for match in alternatives or [{}]:
                if route_match(match, request) and (best is None or specificity(match) > best):
                    best, chosen = specificity(match), (f"HTTPRoute shop/p{name}", f"rules[{number}]")
    return chosen


@settings(max_examples=EXAMPLES)
@given(routes, seeds)
def test_http_routes_route_by_the_most_specific_match_of_all(routes, seed):
    documents = [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": f"p{name}", "namespace": "shop"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "api"}],
                "rules": [
                    {"backendRefs": [{"name": "api", "port": 8080}], **({"matches": each} if each else {})}
                    for each in rules
                ],
            },
        }
        for name, rules in enumerate(routes)
    ]
    requests = list(drawn(seed))
    random.Random(seed).shuffle(documents)
    for request, found in zip(requests, decided(documents, requests), strict=True):
        assert found == route_reference(routes, request), request


# -- GRPCRoute: the longest service, the longest method, the number of headers

SERVICES, RPCS = ["shop.Cart", "shop.C", "blog.Posts"], ["Get", "GetAll", "Put"]
rpcs = some({"service": st.sampled_from(SERVICES), "method": st.sampled_from(RPCS)}).filter(bool)
grpc_matches = some({"method": rpcs, "headers": listed()}).filter(bool)
grpc_routes = st.lists(
    st.lists(st.lists(grpc_matches, max_size=3), min_size=1, max_size=4), min_size=1, max_size=3
)


def grpc_match(match, request):
    _, path, headers, _, _ = request
    service, _, rpc = path[1:].rpartition("/")
    wanted = match.get("method", {})
    return (
        wanted.get("service", service) == service
        and wanted.get("method", rpc) == rpc
        and all(headers.get(h["name"]) == h["value"] for h in match.get("headers", ()))
    )


def grpc_reference(routes, request):
    best, chosen = None, None
    for name, rules in enumerate(routes):
        for number, alternatives in enumerate(rules):
            for match in alternatives or [{}]:
                wanted = match.get("method", {})
                size = (
                    len(wanted.get("service", "")),
                    len(wanted.get("method", "")),
                    len(match.get("headers", ())),
                )
                if grpc_match(match, request) and (best is None or size > best):
                    best, chosen = size, (f"GRPCRoute shop/p{name}", f"rules[{number}]")
    return chosen


@settings(max_examples=max(1, EXAMPLES // 2))
@given(grpc_routes, seeds)
def test_grpc_routes_route_by_the_longest_service_and_method(routes, seed):
    documents = [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GRPCRoute",
            "metadata": {"name": f"p{name}", "namespace": "shop"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "api"}],
                "rules": [
                    {"backendRefs": [{"name": "api", "port": 8080}], **({"matches": each} if each else {})}
                    for each in rules
                ],
            },
        }
        for name, rules in enumerate(routes)
    ]
    draw = random.Random(seed)
    requests = [
        ("POST", f"/{draw.choice(SERVICES)}/{draw.choice(RPCS)}", headers, {}, "api:8080")
        for _, _, headers, _, _ in drawn(seed)
    ]
    for request, found in zip(requests, decided(documents, requests), strict=True):
        assert found == grpc_reference(routes, request), request
