"""The engine against reference models that are short enough to be read as the rules themselves."""

from hypothesis import given, settings
from hypothesis import strategies as st

from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.request import Peer, Request
from meshpy.engine.route import Routed, Router
from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    HttpMatch,
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    Operation,
    PeerMatch,
    PortRange,
    Source,
    Tier,
)
from meshpy.model.endpoint import Protocol
from meshpy.model.match import Exact, Prefix, RequestMatch, SegmentPrefix, Suffix
from meshpy.model.names import ServiceName
from meshpy.model.route import Destination, Forward, RouteRule, VirtualHost
from tests.helpers.wire import value_as_received

SERVICES = [ServiceName("shop", name) for name in ("web", "api")] + [ServiceName("blog", "web")]
PATHS = ["/", "/a", "/ab", "/a/b", "/b"]
METHODS = ["GET", "POST"]
services = st.sampled_from(SERVICES)
some_services = st.none() | st.frozensets(services, max_size=2)
paths = st.builds(Exact, st.sampled_from(PATHS)) | st.builds(Prefix, st.sampled_from(PATHS))
paths |= st.builds(Suffix, st.sampled_from(["b", "/"])) | st.builds(SegmentPrefix, st.sampled_from(PATHS))
methods = st.builds(Exact, st.sampled_from(METHODS))
principals = st.sampled_from(SERVICES).map(lambda s: Exact(f"cluster.local{s.spiffe_path}"))


def few(items):
    return st.lists(items, max_size=2).map(tuple)


sources = st.builds(
    Source, principals=few(principals), not_principals=few(principals), namespaces=few(st.just(Exact("shop")))
)
operations = st.builds(
    Operation,
    ports=few(st.sampled_from([80, 81])),
    methods=few(methods),
    not_methods=few(methods),
    paths=few(paths),
    not_paths=few(paths),
)
rules = st.builds(AuthorizationRule, st.just("r"), few(sources), few(operations))
policies = st.builds(
    AuthorizationPolicy, st.just("p"), st.sampled_from(list(Action)), few(rules), st.booleans()
)
network_rules = st.builds(
    NetworkRule,
    st.just("r"),
    st.sampled_from(list(NetworkAction)),
    st.builds(PeerMatch, services=some_services, not_services=some_services),
    few(st.just(PortRange(80, 80))),
    few(st.just(PortRange(81, 81))),
    st.none() | st.builds(HttpMatch, few(methods), few(paths)),
)
network_policies = st.builds(NetworkPolicy, st.just("n"), few(network_rules))
tiers = st.builds(
    Tier,
    st.just("t"),
    st.lists(network_policies, min_size=1, max_size=2).map(tuple),
    st.sampled_from([NetworkAction.DENY, NetworkAction.PASS]),
)
authorizations = st.builds(
    Authorization,
    ingress=few(tiers),
    policies=few(policies),
    baseline=st.frozensets(services, max_size=2),
    baseline_external=st.frozensets(st.just(80)),
)


def holds(match, text):
    match match:
        case Exact(value=value):
            return text == value
        case Prefix(value=value):
            return text.startswith(value)
        case Suffix(value=value):
            return text.endswith(value)
        case SegmentPrefix(value=value):
            return (text + "/").startswith(value.rstrip("/") + "/")


def some(matches, text, *, without=""):
    return not matches or any(holds(match, text) for match in matches if text != without)


def none(matches, text):
    return not any(holds(match, text) for match in matches)


def reference_rule(rule, peer, port, request, denies):
    def source(s):
        namespace = peer.service.namespace if peer.service else ""
        return (
            some(s.principals, peer.principal)
            and none(s.not_principals, peer.principal)
            and some(s.namespaces, namespace)
        )

    def operation(o):
        if o.ports and port not in o.ports:
            return False
        if request is None:
            return denies if o.is_l7 else True
        by_method = some(o.methods, request.method) and none(o.not_methods, request.method)
        return by_method and some(o.paths, request.path) and none(o.not_paths, request.path)

    return (not rule.sources or any(map(source, rule.sources))) and (
        not rule.operations or any(map(operation, rule.operations))
    )


def reference_network(auth, peer, port, request):
    for tier in auth.ingress:
        for rule in (rule for policy in tier.policies for rule in policy.rules):
            services, not_services, http = rule.peer.services, rule.peer.not_services, rule.http
            matches = services is None or peer.service in services
            matches &= not_services is None or peer.service not in not_services
            matches &= (not rule.ports or port == 80) and (not rule.not_ports or port != 81)
            if http and request is None:
                matches &= rule.action is NetworkAction.DENY
            elif http:
                matches &= (some(http.methods, request.method)) and some(http.paths, request.path)
            if matches and rule.action in (NetworkAction.ALLOW, NetworkAction.DENY):
                return rule.action is NetworkAction.ALLOW
            if matches and rule.action is NetworkAction.PASS:
                break
        else:
            if tier.default_action is NetworkAction.DENY:
                return False
    return peer.service in auth.baseline if peer.service else port in auth.baseline_external


def reference(auth, peer, port, request):
    def matching(action):
        return [
            any(
                reference_rule(rule, peer, port, request, action is not Action.ALLOW) for rule in policy.rules
            )
            for policy in auth.policies
            if policy.action is action and not policy.dry_run
        ]

    allow = matching(Action.ALLOW)
    return (
        reference_network(auth, peer, port, request)
        and (request is not None or not any(matching(Action.CUSTOM)))
        and not any(matching(Action.DENY))
        and (not allow or any(allow))
    )


@settings(max_examples=400)
@given(
    auth=authorizations,
    service=st.none() | services,
    port=st.sampled_from([80, 81]),
    method=st.sampled_from(METHODS),
    path=st.sampled_from(PATHS),
    opaque=st.booleans(),
)
def test_inbound_verdicts_are_those_of_the_reference(auth, service, port, method, path, opaque):
    peer = Peer(service, f"cluster.local{service.spiffe_path}" if service else "", "10.0.0.1")
    request = None if opaque else Request(method, path, "", "api", "http", {})
    protocol = Protocol.TCP if opaque else Protocol.HTTP
    authorizer = InboundAuthorizer(value_as_received(auth))
    verdict = authorizer.judge(request, peer, port, protocol)
    assert verdict.allowed is reference(auth, peer, port, request)
    judge = authorizer.for_connection(peer, port, protocol)
    assert judge.judge(request) == verdict
    if verdict.stage in ("network", "custom", "deny", "allow") and (verdict.rule or verdict.allowed):
        steps = authorizer.evaluate_all(request, peer, port, protocol)
        assert any(step.matched and step.stage == verdict.stage for step in steps)


route_matches = st.builds(RequestMatch, path=st.none() | paths, method=st.none() | methods)


@settings(max_examples=200)
@given(
    rules=st.lists(st.lists(route_matches, max_size=2).map(tuple), max_size=30),
    method=st.sampled_from(METHODS),
    path=st.sampled_from(PATHS),
)
def test_routes_are_the_first_that_match(rules, method, path):
    """With the index (many rules) and without it."""
    virtual_host = VirtualHost(
        "h",
        ("api",),
        tuple(RouteRule(Forward((Destination(str(i)),)), matches=m) for i, m in enumerate(rules)),
    )
    expected = next(
        (
            str(i)
            for i, matches in enumerate(rules)
            if not matches
            or any(
                (m.path is None or holds(m.path, path)) and (m.method is None or holds(m.method, method))
                for m in matches
            )
        ),
        None,
    )
    router = Router([value_as_received(virtual_host)])
    routing = router.route(Request(method, path, "", "api", "http", {}), 0.5)
    assert (routing.destination.cluster if isinstance(routing, Routed) else None) == expected


path_rules = st.builds(
    AuthorizationRule,
    st.just("r"),
    few(sources),
    st.lists(st.builds(Operation, methods=few(methods), paths=few(paths)), max_size=2).map(tuple),
)
path_policies = st.builds(
    AuthorizationPolicy,
    st.just("p"),
    st.sampled_from([Action.ALLOW, Action.DENY]),
    st.lists(path_rules, min_size=6, max_size=12).map(tuple),
)
http_rules = st.builds(
    NetworkRule,
    st.just("r"),
    st.sampled_from(list(NetworkAction)),
    http=st.none() | st.builds(HttpMatch, few(methods), few(paths)),
)
long_tiers = st.builds(
    Tier,
    st.just("t"),
    st.lists(
        st.builds(NetworkPolicy, st.just("n"), st.lists(http_rules, min_size=5, max_size=12).map(tuple)),
        min_size=1,
        max_size=2,
    ).map(tuple),
    st.sampled_from([NetworkAction.DENY, NetworkAction.PASS]),
)
long_lists = st.builds(
    Authorization,
    ingress=few(long_tiers),
    policies=few(path_policies),
    baseline=st.frozensets(services, max_size=3),
)


@settings(max_examples=250)
@given(
    auth=long_lists,
    service=services,
    method=st.sampled_from(METHODS),
    path=st.sampled_from(PATHS),
)
def test_many_rules_found_by_path_are_those_of_the_reference(auth, service, method, path):
    peer = Peer(service, f"cluster.local{service.spiffe_path}", "10.0.0.1")
    request = Request(method, path, "", "api", "http", {})
    verdict = InboundAuthorizer(value_as_received(auth)).judge(request, peer, 80, Protocol.HTTP)
    assert verdict.allowed is reference(auth, peer, 80, request)
