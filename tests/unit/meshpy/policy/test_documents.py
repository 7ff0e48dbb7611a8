"""What the accepted documents mean."""

from __future__ import annotations

import gc
import textwrap
import tracemalloc

import pytest

from meshpy.model.authz import Action, NetworkAction
from meshpy.model.match import Exact, HeaderMatch, PathTemplate, Prefix, Present, Regex, SegmentPrefix, Suffix
from meshpy.model.resilience import (
    CheckProtocol,
    ConsistentHash,
    FailurePercentage,
    HashBy,
    HashTable,
    HealthCheck,
    LoadBalancing,
    Locality,
    LocalityShares,
    RetryOn,
    SuccessRate,
    Warmup,
)
from meshpy.model.route import Cors, DerivePort, DirectResponse, Fault, Redirect, Rewrite
from meshpy.policy import load, load_documents, policy_set
from meshpy.policy.kinds import (
    AuthorizationRuleDoc,
    BalancerDoc,
    HttpRouteDoc,
    NetworkPolicyDoc,
    TrafficPolicy,
)
from meshpy.policy.reader import duration_s
from tests.helpers.policies import BRIEF, document, loaded, problems_of


def route(extra: str) -> HttpRouteDoc:
    spec = "hosts: [a]\nhttp:\n- " + "\n  ".join(extra.strip("\n").split("\n"))
    return loaded(document("VirtualService", spec)).virtual_services[0].http[0]


def rule(extra: str) -> AuthorizationRuleDoc:
    spec = "rules:\n- " + "\n  ".join(extra.strip("\n").split("\n"))
    return loaded(document("AuthorizationPolicy", spec)).authorization_policies[0].rules[0]


def network(spec: str) -> NetworkPolicyDoc:
    return loaded(document("NetworkPolicy", spec)).network_policies[0]


def test_the_documents_of_the_brief_are_read_as_they_stand() -> None:
    policies = load([("brief.yml", BRIEF)])
    (service,), (policy,) = policies.virtual_services, policies.network_policies
    assert service.meta.title == "VirtualService default/my-service"
    assert service.http[0].destinations[0].port == 80
    assert service.http[0].retry is not None
    assert (service.http[0].retry.attempts, service.http[0].retry.per_try_timeout_s) == (3, 2.0)
    assert RetryOn.CONNECT_FAILURE in service.http[0].retry.on
    assert policy.meta.title == "NetworkPolicy default/deny-all"
    assert policy.ingress is not None
    assert policy.egress is not None
    assert [r.action for r in (*policy.ingress, *policy.egress)] == [NetworkAction.DENY] * 2


def test_documents_read_again_alone_keep_meaning_namespace_and_lines() -> None:
    first = load([("brief.yml", BRIEF)], default_namespace="shop")
    again = load_documents(first.documents)
    assert again.virtual_services == first.virtual_services
    assert again.network_policies == first.network_policies
    assert [one.identity for one in again.documents] == [
        ("NetworkPolicy", "default", "deny-all"),
        ("VirtualService", "shop", "my-service"),
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2),
        ("1.5s", 1.5),
        ("100ms", 0.1),
        ("1h30m", 5400),
        ("0s", 0),
        ("0", 0),
        (".5s", 0.5),
        ("2us", 2e-6),
    ],
)
def test_a_duration_is_go_s(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "2", "s", "-2s", "2 s", "2S", "2d", "1e3s", "2s ", "٢s", "99999999999h"]
)
def test_what_is_no_duration(text: str) -> None:
    assert duration_s(text) is None


@pytest.mark.parametrize(
    ("version", "kind"),
    [(f"networking.istio.io/{v}", k) for v in ("v1", "v1beta1", "v1alpha3") for k in ("DestinationRule",)]
    + [(f"security.istio.io/{v}", "AuthorizationPolicy") for v in ("v1", "v1beta1")],
)
def test_every_served_version_is_read(version: str, kind: str) -> None:
    spec = "{host: a}" if kind == "DestinationRule" else "{}"
    text = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n"
    assert problems_of(text) == ()


def test_matches_keep_istio_s_meaning() -> None:
    found = route(
        "match: [{uri: {prefix: /a}, ignoreUriCase: true, method: {exact: GET}, scheme: {exact: http},"
        " authority: {regex: 'a.*'}, headers: {X-A: {exact: b}, x-c: {}}, withoutHeaders: {x-d: {prefix: e}},"
        " queryParams: {q: {exact: '1'}}, port: 80,"
        " sourceLabels: {app: web}, sourceNamespace: shop, name: n}]\n"
        "directResponse: {status: 200, body: {string: ok}}"
    )
    (match,) = found.matches
    assert match.request.path == Prefix("/a")
    assert match.request.ignore_path_case
    assert (match.request.method, match.request.scheme) == (Exact("GET"), Exact("http"))
    assert match.request.authority == Regex("a.*")
    assert match.request.headers == (
        HeaderMatch("x-a", Exact("b")),
        HeaderMatch("x-c", None),
        HeaderMatch("x-d", Prefix("e"), invert=True),
    )
    assert match.request.query == {"q": Exact("1")}
    assert (match.request.port, match.source_labels, match.source_namespace) == (80, {"app": "web"}, "shop")
    assert found.answer == DirectResponse(200, "ok")


def test_an_action_is_a_redirect_with_its_defaults() -> None:
    assert route("redirect: {uri: /b}").answer == Redirect(uri="/b", code=301)


def test_a_route_carries_rewrite_fault_timeout_and_headers() -> None:
    found = route(
        "route: [{destination: {host: a, subset: v1}, weight: 90}, {destination: {host: b}, weight: 10}]\n"
        "rewrite: {uriRegexRewrite: {match: '^/v1/(.*)$', rewrite: '/\\1'}, authority: b}\n"
        "fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}},"
        " abort: {httpStatus: 503, percentage: {value: 50}}}\n"
        "timeout: 10s\n"
        "headers: {request: {set: {a: 50%%}, add: {b: c}, remove: [d]}}"
    )
    assert [(d.host.host, d.subset, d.weight) for d in found.destinations] == [("a", "v1", 90), ("b", "", 10)]
    assert found.rewrite == Rewrite(None, "^/v1/(.*)$", "/\\1", "b")
    assert found.fault == Fault(5.0, 0.1, 503, 50.0)
    assert found.timeout_s == 10.0
    assert found.request_headers.set == (("a", "50%"),)
    assert (found.request_headers.add, found.request_headers.remove) == ((("b", "c"),), ("d",))


def test_a_timeout_of_zero_is_said_and_is_no_timeout() -> None:
    """A delegate's `0s` turns its root's timeout off; silence takes it over."""
    assert route("route: [{destination: {host: a}}]\ntimeout: 0s").timeout_s == 0.0
    assert route("route: [{destination: {host: a}}]").timeout_s is None


CORS = """
corsPolicy:
  allowOrigins: [{exact: https://a.example}, {prefix: https://cdn-}, {regex: '.*'}]
  allowMethods: [GET, POST]
  allowHeaders: [x-token]
  exposeHeaders: [x-rate]
  maxAge: 24h
  allowCredentials: true
  unmatchedPreflights: IGNORE
"""


def test_a_cors_policy_says_all_that_istio_lets_it_say() -> None:
    found = route("route: [{destination: {host: a}}]" + CORS).cors
    origins = (Exact("https://a.example"), Prefix("https://cdn-"), Regex(".*"))
    assert found == Cors(origins, ("GET", "POST"), ("x-token",), ("x-rate",), 86400, True, False)
    assert route("route: [{destination: {host: a}}]\ncorsPolicy: {allowOrigins: [{exact: a}]}").cors == Cors(
        (Exact("a"),)
    )


@pytest.mark.parametrize(
    ("text", "mirrors"),
    [
        ("mirror: {host: b, subset: v2}", [("b", "v2", 100.0)]),
        ("mirror: {host: b}\nmirrorPercentage: {value: 0.5}", [("b", "", 0.5)]),
        (
            "mirrors:\n- destination: {host: b}\n- {destination: {host: c}, percentage: {value: 5}}",
            [("b", "", 100.0), ("c", "", 5.0)],
        ),
    ],
)
def test_mirrors_have_a_share_and_all_of_it_unless_said(
    text: str, mirrors: list[tuple[str, str, float]]
) -> None:
    found = route("route: [{destination: {host: a}}]\n" + text).mirrors
    assert [(m.destination.host.host, m.destination.subset, m.pct) for m in found] == mirrors


@pytest.mark.parametrize(
    ("name", "number", "http"),
    [("OK", 0, 200), ("UNAVAILABLE", 14, 503), ("RESOURCE_EXHAUSTED", 8, 429), ("DATA_LOSS", 15, 500)],
)
def test_a_grpc_fault_has_an_http_status_for_others(name: str, number: int, http: int) -> None:
    fault = f"fault: {{abort: {{grpcStatus: {name}, percentage: {{value: 5}}}}}}"
    assert route("route: [{destination: {host: a}}]\n" + fault).fault == Fault(
        abort_status=http, abort_pct=5.0, abort_grpc_status=number
    )


def test_direct_responses_have_text_or_bytes() -> None:
    assert route("directResponse: {status: 503, body: {string: closed}}").answer == DirectResponse(
        503, "closed"
    )
    assert route("directResponse: {status: 200, body: {bytes: iVBORw==}}").answer == DirectResponse(
        200, body_base64="iVBORw=="
    )


@pytest.mark.parametrize("word", list(DerivePort))
def test_a_redirect_s_port_is_derived(word: DerivePort) -> None:
    found = route(f"redirect: {{scheme: https, derivePort: {word}}}").answer
    assert found == Redirect(scheme="https", derive_port=word)


def test_a_delegate_belongs_to_the_document_s_namespace_unless_it_says_another() -> None:
    own, other = route("delegate: {name: x}").delegate, route("delegate: {name: x, namespace: y}").delegate
    assert own is not None
    assert other is not None
    assert [(own.namespace, own.name), (other.namespace, other.name)] == [("shop", "x"), ("y", "x")]


def test_absent_retries_are_told_from_zero_attempts() -> None:
    assert route("route: [{destination: {host: a}}]").retry is None
    off = route("route: [{destination: {host: a}}]\nretries: {attempts: 0}").retry
    assert off is not None
    assert off.attempts == 0


@pytest.mark.parametrize("text", ["'5xx,503'", "'503, 5xx'"])
def test_retry_conditions_are_words_and_codes(text: str) -> None:
    found = route(f"route: [{{destination: {{host: a}}}}]\nretries: {{retryOn: {text}}}").retry
    assert found is not None
    assert found.on == {RetryOn.SERVER_ERROR, RetryOn.RETRIABLE_STATUS_CODES}
    assert found.status_codes == {503}


def test_a_destination_rule_maps_to_pools_and_detectors() -> None:
    (found,) = loaded(
        document(
            "DestinationRule",
            """
            host: a
            trafficPolicy:
              loadBalancer: {simple: ROUND_ROBIN}
              connectionPool:
                tcp: {maxConnections: 7, connectTimeout: 30ms, tcpKeepalive: {time: 60s}}
                http:
                  {http1MaxPendingRequests: 8, http2MaxRequests: 9, maxRetries: 0,
                   maxRequestsPerConnection: 1, maxConcurrentStreams: 50, h2UpgradePolicy: UPGRADE}
              outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, interval: 1s}
              retryBudget: {percent: 30, minRetryConcurrency: 5}
              portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]
            subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}]
            """,
        )
    ).destination_rules
    assert found.policy is not None
    pool, outlier = found.policy.pool, found.policy.outlier
    assert pool is not None
    assert outlier is not None
    assert (pool.max_connections, pool.connect_timeout_s, pool.keepalive_time_s) == (7, 0.03, 60.0)
    assert (pool.max_pending_requests, pool.max_requests, pool.max_requests_per_connection) == (8, 9, 1)
    assert (pool.max_concurrent_streams, pool.h2_upgrade, pool.use_client_protocol) == (50, True, False)
    assert (pool.max_retries, pool.retry_budget.percent, pool.retry_budget.min_concurrency) == (0, 30.0, 5)
    assert (outlier.consecutive_5xx, outlier.consecutive_gateway_errors, outlier.interval_s) == (0, 3, 1.0)
    assert (outlier.base_ejection_s, outlier.max_ejection_pct) == (30.0, 10)
    assert found.policy.load_balancing == BalancerDoc(LoadBalancing.ROUND_ROBIN)
    assert found.policy.ports[80].load_balancing == BalancerDoc(LoadBalancing.RANDOM)
    assert found.policy.ports[80].pool is None
    assert found.subsets[0].labels == {"version": "v1"}


def destination_rule(policy: str) -> TrafficPolicy:
    text = f"host: a\ntrafficPolicy:\n{textwrap.indent(textwrap.dedent(policy).strip(), '  ')}\n"
    found = loaded(document("DestinationRule", text)).destination_rules[0].policy
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("{httpHeaderName: X-User}", ConsistentHash(HashBy.HEADER, "x-user")),
        ("{useSourceIp: true, ringHash: {minimumRingSize: 64}}", ConsistentHash(HashBy.SOURCE_IP, size=64)),
        (
            "{httpQueryParameterName: q, maglev: {}}",
            ConsistentHash(HashBy.QUERY, "q", table=HashTable.MAGLEV, size=65537),
        ),
        (
            "{httpCookie: {name: u, path: /a, ttl: 0s, attributes: [{name: SameSite, value: Lax}]}}",
            ConsistentHash(HashBy.COOKIE, "u", "/a", 0.0, (("SameSite", "Lax"),)),
        ),
        ("{httpCookie: {name: u}}", ConsistentHash(HashBy.COOKIE, "u")),
    ],
)
def test_consistent_hashing_is_read(written: str, read: ConsistentHash) -> None:
    balancer = destination_rule(f"loadBalancer: {{consistentHash: {written}}}").load_balancing
    assert balancer is not None
    assert balancer.affinity == read


def test_locality_warm_up_and_health_are_read() -> None:
    found = destination_rule(
        """
        loadBalancer:
          simple: PEAK_EWMA
          localityLbSetting: {failover: [{from: eu, to: us}]}
          warmup: {duration: 30s, aggression: 2}
        outlierDetection:
          outlierDetectionHttpErrorCodes: [429, 503]
          successRate: {minimumHosts: 3, standardDeviationFactor: 1.5}
          failurePercentage: {threshold: 50}
        healthCheck: {interval: 5s, unhealthyThreshold: 2, http: {path: /healthz, expectedStatuses: [204]}}
        """
    )
    assert found.load_balancing == BalancerDoc(
        LoadBalancing.PEAK_EWMA, None, Locality(failover=(("eu", "us"),)), Warmup(30.0, 10.0, 2.0)
    )
    assert found.outlier is not None
    assert found.outlier.error_codes == {429, 503}
    assert found.outlier.success_rate == SuccessRate(3, 100, 1.5)
    assert found.outlier.failure_percentage == FailurePercentage(50.0)
    assert found.health_check == HealthCheck(
        CheckProtocol.HTTP, 5.0, unhealthy_threshold=2, path="/healthz", statuses=frozenset({204})
    )


def test_locality_can_be_switched_off_and_distributed_without_health() -> None:
    off = destination_rule("loadBalancer: {localityLbSetting: {enabled: false}}").load_balancing
    assert off == BalancerDoc()
    spread = "{distribute: [{from: eu/*, to: {eu/*: 80, us/*: 20}}]}"
    found = destination_rule(f"loadBalancer: {{localityLbSetting: {spread}}}").load_balancing
    assert found is not None
    assert found.locality == Locality((LocalityShares("eu/*", (("eu/*", 80), ("us/*", 20))),))


def test_keepalive_idle_and_the_budget_s_interval_are_read() -> None:
    found = destination_rule(
        """
        connectionPool:
          tcp: {idleTimeout: 1h, tcpKeepalive: {time: 10s, interval: 5s, probes: 3}}
          http: {idleTimeout: 20s, streamIdleTimeout: 0s}
        retryBudget: {budgetInterval: 10s}
        """
    ).pool
    assert found is not None
    assert (found.keepalive_time_s, found.keepalive_interval_s, found.keepalive_probes) == (10.0, 5.0, 3)
    assert (found.tunnel_idle_timeout_s, found.idle_timeout_s, found.stream_idle_timeout_s) == (3600, 20, 0)
    assert found.retry_budget.interval_s == 10.0


def test_authorization_strings_are_exact_prefix_suffix_or_present() -> None:
    found = rule("from: [{source: {principals: [a/b, 'a/*', '*/b', '*']}}]")
    assert found.sources[0].principals == (Exact("a/b"), Prefix("a/"), Suffix("/b"), Present())


def test_a_principal_with_dots_is_literal() -> None:
    found = rule("from: [{source: {principals: ['a.b/ns/c/sa/d']}}]")
    assert found.sources[0].principals == (Exact("a.b/ns/c/sa/d"),)


def test_operations_conditions_and_accounts() -> None:
    found = rule(
        "from: [{source: {serviceAccounts: [web, blog/web], notIpBlocks: [10.0.0.1]}}]\n"
        "to: [{operation: {paths: ['/a/{*}/b/{**}', /c*], ports: ['80', 81],"
        " methods: [GET], hosts: ['*.a']}}]\n"
        "when: [{key: 'request.headers[X-A]', values: [b]}, {key: source.ip, notValues: [10.0.0.0/8]},"
        " {key: destination.port, values: ['80']}]"
    )
    assert found.sources[0].service_accounts == (("shop", "web"), ("blog", "web"))
    assert found.sources[0].not_ip_blocks == ("10.0.0.1/32",)
    (operation,) = found.operations
    assert operation.paths == (PathTemplate("/a/{*}/b/{**}"), Prefix("/c"))
    assert (operation.ports, operation.hosts) == ((80, 81), (Suffix(".a"),))
    assert [c.key for c in found.conditions] == ["request.headers[x-a]", "source.ip", "destination.port"]
    assert found.conditions[1].not_values == (Exact("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("spec", "action", "rules"),
    [
        ("{}", Action.ALLOW, 0),
        ("rules: [{}]", Action.ALLOW, 1),
        ("action: DENY\nrules: [{}]", Action.DENY, 1),
    ],
)
def test_no_rule_and_an_empty_rule_are_different(spec: str, action: Action, rules: int) -> None:
    (found,) = loaded(document("AuthorizationPolicy", spec)).authorization_policies
    assert (found.action, len(found.rules)) == (action, rules)


def test_the_dry_run_annotation_is_read() -> None:
    text = document("AuthorizationPolicy", "{}").replace(
        "namespace: shop}", "namespace: shop, annotations: {istio.io/dry-run: 'true'}}"
    )
    assert loaded(text).authorization_policies[0].dry_run


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        ("selector: all()", True, False),
        ("egress: [{action: Deny}]", False, True),
        ("ingress: [{action: Deny}]", True, False),
        ("ingress: [{action: Deny}]\negress: [{action: Deny}]", True, True),
        ("types: [Egress]", False, True),
        ("types: [Ingress, Egress]", True, True),
    ],
)
def test_types_default_to_the_rules_that_are_there(spec: str, ingress: bool, egress: bool) -> None:
    found = network(spec)
    assert (found.ingress is not None, found.egress is not None) == (ingress, egress)


def test_ports_are_numbers_and_ranges_and_http_paths_whole_segments() -> None:
    found = network(
        "ingress: [{action: Allow, protocol: TCP, destination: {ports: [80, '8000:9000'], notPorts: [8080]},"
        " http: {methods: [GET], paths: [{prefix: /a}, {exact: /b}]}}]"
    )
    assert found.ingress is not None
    (only,) = found.ingress
    assert [(p.first, p.last) for p in only.destination.ports] == [(80, 80), (8000, 9000)]
    assert [(p.first, p.last) for p in only.destination.not_ports] == [(8080, 8080)]
    assert only.http is not None
    assert only.http.paths == (SegmentPrefix("/a"), Exact("/b"))


@pytest.mark.parametrize(
    ("protocol", "is_tcp"),
    [
        ("protocol: TCP", True),
        ("protocol: 6", True),
        ("protocol: UDP", False),
        ("protocol: 17", False),
        ("notProtocol: TCP", False),
        ("notProtocol: UDP", True),
        ("ipVersion: 4", True),
    ],
)
def test_only_rules_for_tcp_meet_connections(protocol: str, is_tcp: bool) -> None:
    found = network(f"ingress: [{{action: Allow, {protocol}}}]")
    assert found.ingress is not None
    assert found.ingress[0].is_tcp is is_tcp


@pytest.mark.parametrize(("remembered", "is_kept"), [(None, False), (1 << 20, True)])
def test_long_texts_of_comparisons_are_not_kept(monkeypatch, remembered: int | None, is_kept: bool) -> None:
    """Any viewer may ask for a diff: what it brought is gone once answered; the second case sees it."""
    if remembered is not None:
        monkeypatch.setattr(policy_set, "_REMEMBERED_CHARS", remembered)
    tracemalloc.start()
    try:
        texts = [document("AuthorizationPolicy", f"action: DENY  # {n}{'x' * 30_000}") for n in range(8)]
        for text in texts:
            load([("a.yaml", text)])
        del text, texts
        gc.collect()
        assert (tracemalloc.get_traced_memory()[0] > 200_000) == is_kept
    finally:
        tracemalloc.stop()
        policy_set._read_once.cache_clear()
