"""What the accepted documents of Gateway API mean."""

from __future__ import annotations

import pytest

from meshpy.model.match import Exact, HeaderMatch, Prefix, Regex, RequestMatch, SegmentPrefix
from meshpy.model.resilience import ConsistentHash, HashBy, RetryOn
from meshpy.model.route import Cors, DerivePort, HeaderOps, Redirect, Rewrite
from meshpy.policy.route_docs import GatewayRouteDoc, GatewayRuleDoc
from tests.helpers.policies import document, loaded, problems_of

PARENT = 'parentRefs: [{group: "", kind: Service, name: api}]\n'


def route(spec: str, kind: str = "HTTPRoute") -> GatewayRouteDoc:
    return loaded(document(kind, PARENT + spec)).gateway_routes[0]


def rule(text: str, kind: str = "HTTPRoute") -> GatewayRuleDoc:
    return route("rules:\n- " + "\n  ".join(text.strip("\n").split("\n")), kind).rules[0]


BACKEND = "backendRefs: [{name: api, port: 8080}]"


def test_parents_are_services_of_the_route_s_namespace_unless_they_say_another() -> None:
    text = """
    parentRefs:
    - {group: "", kind: Service, name: API}
    - {group: core, kind: Service, name: web, namespace: blog, port: 80}
    rules: [{backendRefs: [{name: api, port: 8080}]}]
    """
    found = loaded(document("HTTPRoute", text)).gateway_routes[0]
    assert [(p.host.host, p.namespace, p.port) for p in found.parents] == [
        ("api", "shop", None),
        ("web", "blog", 80),
    ]
    assert found.rules[0].name == "rules[0]"


@pytest.mark.parametrize(
    ("match", "request_match"),
    [
        ("{}", RequestMatch(path=SegmentPrefix("/"))),
        ("{path: {value: /a}}", RequestMatch(path=SegmentPrefix("/a"))),
        ("{path: {type: Exact, value: /a}}", RequestMatch(path=Exact("/a"))),
        ("{path: {type: RegularExpression, value: '/a.*'}}", RequestMatch(path=Regex("/a.*"))),
        ("{method: GET}", RequestMatch(path=SegmentPrefix("/"), method=Exact("GET"))),
        (
            "{headers: [{name: X-A, value: b}, {type: RegularExpression, name: c, value: d+}]}",
            RequestMatch(
                path=SegmentPrefix("/"),
                headers=(HeaderMatch("x-a", Exact("b")), HeaderMatch("c", Regex("d+"))),
            ),
        ),
        (
            "{queryParams: [{name: Q, value: '1'}]}",
            RequestMatch(path=SegmentPrefix("/"), query={"Q": Exact("1")}),
        ),
    ],
)
def test_http_matches(match: str, request_match: RequestMatch) -> None:
    (found,) = rule(f"matches: [{match}]\n{BACKEND}").matches
    assert found.request == request_match


@pytest.mark.parametrize(
    ("match", "path"),
    [
        ("{method: {service: a.B, method: C}}", Exact("/a.B/C")),
        ("{method: {service: a.B}}", Prefix("/a.B/")),
        ("{method: {method: C}}", Regex("/[^/]+/C")),
        ("{method: {type: RegularExpression, service: 'a|b', method: 'C.*'}}", Regex("/(?:a|b)/(?:C.*)")),
        ("{method: {type: RegularExpression, method: 'C.*'}}", Regex("/(?:[^/]+)/(?:C.*)")),
        ("{headers: [{name: a, value: b}]}", None),
    ],
)
def test_grpc_matches(match: str, path: object) -> None:
    (found,) = rule(f"matches: [{match}]\n{BACKEND}", "GRPCRoute").matches
    assert found.request.path == path


def test_rules_without_matches_take_everything() -> None:
    assert rule(BACKEND).matches[0].request == RequestMatch(path=SegmentPrefix("/"))
    assert rule(BACKEND, "GRPCRoute").matches[0].request == RequestMatch()


FILTERS = """
filters:
- type: RequestHeaderModifier
  requestHeaderModifier: {set: [{name: a, value: '50%'}], add: [{name: b, value: c}], remove: [d]}
- {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [server]}}
- {type: RequestMirror, requestMirror: {backendRef: {name: catalog, port: 8080}}}
- {type: RequestMirror, requestMirror: {backendRef: {name: catalog, port: 8080}, percent: 5}}
- type: RequestMirror
  requestMirror: {backendRef: {name: catalog, port: 8080}, fraction: {numerator: 1, denominator: 8}}
- {type: RequestMirror, requestMirror: {backendRef: {name: catalog, port: 8080}, fraction: {numerator: 3}}}
"""


@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
def test_filters_of_both_kinds(kind: str) -> None:
    found = rule(BACKEND + FILTERS, kind)
    assert found.request_headers == HeaderOps((("a", "50%"),), (("b", "c"),), ("d",))
    assert found.response_headers == HeaderOps(remove=("server",))
    assert [m.pct for m in found.mirrors] == [100.0, 5.0, 12.5, 3.0]


PREFIX = "matches: [{path: {value: /a}}]\n"
REQUESTED, DERIVED = DerivePort.FROM_REQUEST_PORT, DerivePort.FROM_PROTOCOL_DEFAULT


@pytest.mark.parametrize(
    ("text", "redirect"),
    [
        ("{hostname: b.example}", Redirect(authority="b.example", code=302, derive_port=REQUESTED)),
        ("{scheme: https}", Redirect(scheme="https", code=302, derive_port=DERIVED)),
        ("{port: 81, statusCode: 307}", Redirect(port=81, code=307)),
        (
            "{path: {type: ReplaceFullPath, replaceFullPath: /x}}",
            Redirect(uri="/x", code=302, derive_port=REQUESTED),
        ),
        (
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}",
            Redirect(prefix_rewrite="/x", code=302, derive_port=REQUESTED),
        ),
    ],
)
def test_redirects_are_302_and_take_their_port_from_scheme_or_listener(text: str, redirect: Redirect) -> None:
    found = rule(f"{PREFIX}filters: [{{type: RequestRedirect, requestRedirect: {text}}}]")
    assert found.redirect == redirect


@pytest.mark.parametrize(
    ("text", "rewrite"),
    [
        ("{hostname: b.example}", Rewrite(authority="b.example")),
        ("{path: {type: ReplaceFullPath, replaceFullPath: /x}}", Rewrite(full_path="/x")),
        ("{path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}", Rewrite(uri="")),
    ],
)
def test_rewrites(text: str, rewrite: Rewrite) -> None:
    assert rule(f"{PREFIX}{BACKEND}\nfilters: [{{type: URLRewrite, urlRewrite: {text}}}]").rewrite == rewrite


def test_cors_origins_have_one_wildcard_and_preflights_are_kept_five_seconds() -> None:
    text = "{allowOrigins: ['https://a.example', 'https://*.b.example', '*'], allowMethods: ['*'],"
    text += " allowCredentials: true}"
    found = rule(f"{BACKEND}\nfilters: [{{type: CORS, cors: {text}}}]").cors
    origins = (Exact("https://a.example"), Regex(r"https://.+\.b\.example"), Exact("*"))
    assert found == Cors(origins, ("*",), max_age_s=5, allow_credentials=True)


def test_timeouts_and_retries() -> None:
    found = rule(
        f"""
{BACKEND}
timeouts: {{request: 1m30s, backendRequest: 500ms}}
retry: {{codes: [500, 503], attempts: 4, backoff: 100ms}}
"""
    )
    assert found.timeout_s == 90
    assert found.retry is not None
    assert (found.retry.attempts, found.retry.per_try_timeout_s, found.retry.backoff_s) == (4, 0.5, 0.1)
    assert found.retry.status_codes == {500, 503}
    assert {RetryOn.CONNECT_FAILURE, RetryOn.RESET} < found.retry.on
    assert rule(BACKEND + "\ntimeouts: {request: 0s}").timeout_s is None
    assert rule(BACKEND).retry is None


def test_backends_have_weights_and_header_changes_of_their_own() -> None:
    text = """
backendRefs:
- {name: a, port: 1}
- name: b
  namespace: blog
  port: 2
  weight: 0
  filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: y}]}}]
"""
    first, second = rule(text.strip()).backends
    assert (first.host.host, first.namespace, first.port, first.weight) == ("a", "shop", 1, 1)
    assert (second.namespace, second.weight, second.request_headers.set) == ("blog", 0, (("x", "y"),))


def test_sessions_are_kept_by_the_hash_of_a_cookie() -> None:
    by_name = rule(BACKEND + "\nsessionPersistence: {sessionName: s}").affinity
    assert by_name == ConsistentHash(HashBy.COOKIE, "s", "/", 0.0)
    text = "{absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}"
    found = rule(f"{BACKEND}\nsessionPersistence: {text}").affinity
    assert found == ConsistentHash(HashBy.COOKIE, "meshpy-session", "/", 3600.0)


def test_a_grant_names_kinds_namespaces_and_services() -> None:
    spec = """
    from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: blog}]
    to: [{group: "", kind: Service, name: api}, {group: "", kind: Service, name: web}]
    """
    (found,) = loaded(document("ReferenceGrant", spec)).reference_grants
    assert (found.sources, found.names) == ({("HTTPRoute", "blog")}, {"api", "web"})
    (every,) = loaded(document("ReferenceGrant", spec.replace(", name: web", ""))).reference_grants
    assert every.names is None


def test_kinds_of_gateway_api_that_mean_nothing_here_say_what_to_write() -> None:
    for kind, instead in (
        ("TLSRoute", "tls: routes"),
        ("TCPRoute", "tcp: routes"),
        ("GatewayClass", "remove it"),
    ):
        text = f"apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{}}\n"
        assert instead in problems_of(text)[0].instead
