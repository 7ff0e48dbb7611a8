"""What compiles and cannot be meant is found, with its line."""

from __future__ import annotations

import pytest

from meshpy.compile import Findings, check
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Inventory, Port
from meshpy.policy import PolicySet
from tests.helpers.policies import BRIEF, document, loaded, service, shop

V, D, A, N, G = (
    "VirtualService",
    "DestinationRule",
    "AuthorizationPolicy",
    "NetworkPolicy",
    "GlobalNetworkPolicy",
)
TO_API = "http: [{route: [{destination: {host: api}}]}]"

ERRORS = [
    (V, f"hosts: [apii]\n{TO_API.replace('api', 'apii')}", 5, "no service is called 'apii'"),
    (V, "hosts: [api]\nhttp: [{route: [{destination: {host: gone}}]}]", 6, "no service is called 'gone'"),
    (V, "hosts: [api]\nhttp: [{route: [{destination: {host: api, port: {number: 80}}}]}]", 6, "no port 80"),
    (V, "hosts: [api]\nhttp: [{route: [{destination: {host: web.blog}}]}]", 6, "several ports (IST0112)"),
    (V, "hosts: [api]\nhttp: [{route: [{destination: {host: api, subset: v9}}]}]", 6, "a subset 'v9'"),
    (V, "hosts: [redis]\nhttp: [{directResponse: {status: 200}}]", 5, "opaque ports only"),
    (V, "hosts: [api]\ntcp: [{route: [{destination: {host: api}}]}]", 5, "HTTP ports only"),
    (V, "hosts: [web.blog]\nhttp: [{directResponse: {status: 200}}]", 5, "belongs to another stack"),
    (D, "host: apii", 5, "no service is called 'apii'"),
    (
        D,
        "host: catalog\nsubsets: [{name: v3, labels: {version: v3}}]",
        6,
        "has the labels version=v3 (IST0173)",
    ),
    (D, "host: api\ntrafficPolicy: {portLevelSettings: [{port: {number: 1}}]}", 5, "has no port 1"),
    (A, "selector: {matchLabels: {app: apii}}", 5, "has the labels app=apii"),
    (A, "targetRefs: [{kind: Service, name: apii}]", 5, "shop has no service apii"),
    (A, "rules: [{from: [{source: {requestPrincipals: ['*']}}]}]", 5, "redis has opaque ports only"),
    (
        A,
        "selector: {matchLabels: {app: redis}}\nrules: [{to: [{operation: {methods: [GET]}}]}]",
        6,
        "opaque ports",
    ),
    (A, "rules: [{when: [{key: 'request.headers[a]', values: [b]}]}]", 5, "redis has opaque ports only"),
    (N, "selector: app == 'apii'", 5, "matches no service"),
    (G, "selector: app == 'apii'", 5, "matches no service"),
    (N, "tier: platform", 5, "there is no tier 'platform'"),
    (
        N,
        "ingress: [{action: Allow, source: {selector: \"app == 'x'\"}}]",
        5,
        "\"app == 'x'\" matches no service",
    ),
    (N, "ingress: [{action: Allow, source: {services: {name: x}}}]", 5, "no service shop/x"),
    (
        N,
        "selector: app == 'redis'\ningress: [{action: Allow, http: {methods: [GET]}}]",
        6,
        "`http` never holds",
    ),
]
WARNINGS = [
    (V, f"hosts: [www]\n{TO_API}", 5, "no service is called 'www'"),
    (V, f"hosts: [api]\n{TO_API[:-1]}, {{directResponse: {{status: 200}}}}]", 6, "is never reached"),
    (A, "action: DENY", 1, "DENY without a rule never matches"),
    (A, "rules: [{from: [{source: {serviceAccounts: [gone]}}]}]", 5, "no service shop/gone"),
    (A, "rules: [{from: [{source: {namespaces: [gone]}}]}]", 5, "no namespace gone"),
    (
        A,
        "rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/gone]}}]}]",
        5,
        "no service shop/gone",
    ),
    (N, "ingress: [{action: Allow, protocol: UDP}]", 5, "TCP only"),
    (
        G,
        "egress: [{action: Allow, protocol: UDP, destination: {selector: has(dns), ports: [53]}}]",
        5,
        "TCP only",
    ),
    (
        "NetworkPolicy.networking.k8s.io",
        "podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {project: later}}}]}]",
        6,
        "\"project == 'later'\" matches no service",
    ),
    (
        "CiliumNetworkPolicy",
        "endpointSelector: {}\negress: [{toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: x}}]}]",
        6,
        "projectcalico.org/namespace == 'x'",
    ),
    (N, "ingress: [{action: Allow, source: {namespaceSelector: global()}}]", 5, "global() matches nothing"),
]


@pytest.mark.parametrize(("kind", "spec", "line", "says"), ERRORS)
def test_an_error_names_its_line_and_a_remedy(kind: str, spec: str, line: int, says: str) -> None:
    errors = check(shop(), loaded(document(kind, spec))).errors
    found = [e for e in errors if says in e.what]
    assert found, errors
    assert found[0].place.line == line
    assert found[0].instead


@pytest.mark.parametrize(("kind", "spec", "line", "says"), WARNINGS)
def test_a_warning_names_its_line(kind: str, spec: str, line: int, says: str) -> None:
    findings = check(shop(), loaded(document(kind, spec)))
    assert findings.errors == ()
    assert [w.place.line for w in findings.warnings if says in w.what] == [line]


def test_good_policies_have_no_findings() -> None:
    policies = loaded(
        BRIEF.replace("namespace: default", "namespace: shop"),
        document(V, "hosts: [catalog]\nhttp: [{route: [{destination: {host: catalog, subset: v1}}]}]"),
        document(D, "host: catalog\nsubsets: [{name: v1, labels: {version: v1}}]"),
        document(A, "selector: {matchLabels: {app: api}}\nrules: [{to: [{operation: {methods: [GET]}}]}]"),
        document(A, "rules: [{to: [{operation: {methods: [GET], ports: ['8080']}}]}]", "with-ports"),
    )
    default = service("default/my-service", ports=(Port(80, Protocol.HTTP),))
    assert check(shop(default), policies) == Findings()


def test_policies_may_come_before_their_stack() -> None:
    findings = check(Inventory(), loaded(BRIEF))
    assert findings.errors == ()
    assert findings.warnings


@pytest.mark.parametrize("kind", [A, "PeerAuthentication", "Telemetry"])
def test_a_document_for_istio_s_root_namespace_is_not_left_without_effect(kind: str) -> None:
    spec = {A: "action: ALLOW", "PeerAuthentication": "mtls: {mode: STRICT}"}
    text = document(kind, spec.get(kind, "accessLogging: [{disabled: true}]"), namespace="istio-system")
    (error,) = check(shop(), loaded(text)).errors
    assert error.instead == "write mesh-system: it is the root namespace here"
    own = service("istio-system/pilot")
    assert check(shop(own), loaded(text)).errors == ()


def test_what_the_inventory_lacks_is_a_warning_when_not_strict() -> None:
    policies = loaded(document(N, "selector: app == 'apii'"))
    findings = check(shop(), policies, strict=False)
    assert (findings.errors, len(findings.warnings)) == ((), 1)


def test_two_virtual_services_for_a_host_are_named_both() -> None:
    texts = [
        document(V, f"hosts: [{host}]\n{TO_API}", name) for host, name in (("api", "a"), ("api.shop", "b"))
    ]
    (error,) = check(shop(), loaded(*texts)).errors
    assert "VirtualService shop/b and VirtualService shop/a (0.yml:1:1) both route api.shop" in error.what


def test_two_traffic_policies_for_a_host_are_named_both() -> None:
    texts = [document(D, "host: api\ntrafficPolicy: {outlierDetection: {}}", name) for name in "ab"]
    (error,) = check(shop(), loaded(*texts)).errors
    assert "both set the trafficPolicy of api.shop" in error.what


def test_two_opaque_destinations_on_a_port_are_named_both() -> None:
    inventory = shop(service("redis2", ports=(Port(6379, Protocol.TCP),)))
    found = [e for e in check(inventory, PolicySet()).warnings if e.place.key == "shop/web"]
    assert "redis.shop (tcp) and redis2.shop (tcp) on port 6379" in found[0].what
    assert "meshpy.binds" in found[0].instead
