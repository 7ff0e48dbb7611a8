"""Every document reads again from the text that is kept of it, as the same value at the same place."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from ruamel.yaml import YAML

from meshpy.policy import PolicySet, load, load_documents
from meshpy.policy.policy_set import kind_versions
from tests.conformance.test_schemas import EXAMPLES
from tests.helpers.policies import document
from tests.helpers.random_policies import JWKS


def _values(policies: PolicySet) -> PolicySet:
    return replace(policies, documents=())


@pytest.mark.parametrize("indent", ["", "  "], ids=["plain", "indented"])
def test_documents_read_again_from_their_own_text(indent: str) -> None:
    kinds = set()
    for text in EXAMPLES:
        shifted = "\n".join(f"{indent}{line}" if line.strip() else line for line in text.splitlines())
        first = load([("a.yml", shifted)])
        again = load_documents(first.documents)
        assert again.documents == first.documents
        assert _values(again) == _values(first)
        kinds.update(document.kind for document in first.documents)
    assert len(kinds) > 10


ONE_OF_EACH = {
    "VirtualService": "hosts: [api]\n"
    "http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: api}}]}]",
    "DestinationRule": "host: api\ntrafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}",
    "AuthorizationPolicy": "action: DENY\nrules: [{to: [{operation: {paths: ['/x*']}}]}]",
    "PeerAuthentication": "mtls: {mode: STRICT}",
    "RequestAuthentication": f"jwtRules: [{{issuer: i, jwks: '{JWKS}'}}]",
    "MeshConfig": "defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}",
    "ServiceEntry": "hosts: [a.test]\nports: [{number: 80, name: http, protocol: HTTP}]",
    "Telemetry": "accessLogging: [{filter: {expression: 'response.code >= 400'}}]\n"
    "metrics: [{overrides: [{tagOverrides: {source_app: {operation: REMOVE}}}]}]",
    "Gateway": "selector: {app: api}\nservers: [{port: {number: 80, protocol: HTTP, name: a}, hosts: ['*']}]",
    "Gateway.gateway.networking.k8s.io": "gatewayClassName: meshpy\n"
    "listeners: [{name: a, port: 80, protocol: HTTP}]",
    "HTTPRoute": "parentRefs: [{group: '', kind: Service, name: api}]\n"
    "rules: [{backendRefs: [{name: api, port: 8080}]}]",
    "GRPCRoute": "parentRefs: [{group: '', kind: Service, name: api}]\n"
    "rules: [{matches: [{method: {service: s}}], backendRefs: [{name: api, port: 8080}]}]",
    "ReferenceGrant": "from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: blog}]\n"
    "to: [{group: '', kind: Service}]",
    "HTTPLocalRateLimitPolicy": "targetRef: {kind: Service, group: core, name: api}\n"
    "total: {requestsPerSecond: 5}",
    "NetworkPolicy": "selector: app == 'api'\norder: 1.5\ningress: [{action: Allow, protocol: TCP}]",
    "GlobalNetworkPolicy": "selector: has(app)\negress: [{action: Pass}]",
    "StagedNetworkPolicy": "selector: all()\nstagedAction: Set\ningress: [{action: Deny}]",
    "StagedGlobalNetworkPolicy": "selector: all()\nstagedAction: Learn\ningress: [{action: Log}]",
    "StagedKubernetesNetworkPolicy": "podSelector: {}\nstagedAction: Set\npolicyTypes: [Ingress]",
    "NetworkSet": "nets: [192.0.2.0/24]",
    "GlobalNetworkSet": "nets: [192.0.2.0/24]",
    "Tier": "order: 10\ndefaultAction: Pass",
    "NetworkPolicy.networking.k8s.io": "podSelector: {}\ningress: [{ports: [{port: 80, endPort: 90}]}]",
    "CiliumNetworkPolicy": "endpointSelector: {}\ningress: [{fromEntities: [all]}]",
    "CiliumClusterwideNetworkPolicy": "endpointSelector: {}\negress: [{toEntities: [world]}]",
}


def test_there_is_one_of_each_kind() -> None:
    assert set(ONE_OF_EACH) == set(kind_versions())


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_every_kind_survives_being_read_and_printed_by_a_yaml_tool(kind: str) -> None:
    """As kubectl, yq and GitOps tools do it: other quotes, other order of lines, other indentation."""
    text = document(kind, ONE_OF_EACH[kind])
    tool = YAML(typ="safe", pure=True)
    tool.default_flow_style = False
    stream = io.StringIO()
    tool.dump(tool.load(text), stream)
    printed = stream.getvalue()
    assert printed != text
    first, again = load([("a.yml", text)]), load([("a.yml", printed)])
    assert _meaning(first) == _meaning(again)


def _meaning(policies: PolicySet) -> str:
    """The values without the places where they stand."""
    return re.sub(r"Place\([^)]*\)", "", repr(_values(policies)))
