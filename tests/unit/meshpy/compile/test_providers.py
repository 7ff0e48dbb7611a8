"""Extension providers: defined once for the mesh, compiled for the workloads that ask them."""

from __future__ import annotations

import json

import pytest

from meshpy.compile import check, compile_mesh
from meshpy.model.authz import Action
from meshpy.model.endpoint import Protocol, Transport
from meshpy.model.ext_authz import BodyCheck, CheckApi, ExtAuthz
from meshpy.model.inventory import Inventory, Port
from meshpy.model.match import Exact, Prefix
from meshpy.model.names import ServiceName
from meshpy.wire import decode_snapshot, encode
from tests.helpers.policies import document, loaded, service, shop

ASK = document(
    "AuthorizationPolicy",
    "selector: {matchLabels: {app: api}}\naction: CUSTOM\nprovider: {name: opa}\nrules: [{}]",
)


def config(spec: str) -> str:
    return document("MeshConfig", f"extensionProviders:\n- name: opa\n  {spec}", "mesh")


OPA = config("envoyExtAuthzHttp: {service: authz.shop.svc.cluster.local, port: 9000}")


def test_a_port_is_read_as_istio_s_guides_write_it() -> None:
    quoted = config('envoyExtAuthzHttp: {service: authz.shop, port: "9000"}')
    plain = config("envoyExtAuthzHttp: {service: authz.shop, port: 9000}")
    assert loaded(quoted).mesh_configs[0].providers[0].port == loaded(plain).mesh_configs[0].providers[0].port


def mesh(**fields: object) -> Inventory:
    settings = {"ports": (Port(9000, Protocol.HTTP), Port(9001, Protocol.GRPC)), **fields}
    return shop(service("authz", **settings))


def test_every_field_has_its_meaning_and_the_defaults_are_said() -> None:
    text = config(
        """envoyExtAuthzHttp:
    service: shop/authz
    port: 9000
    timeout: 2.5s
    pathPrefix: /check
    failOpen: true
    statusOnError: "503"
    includeRequestHeadersInCheck: [X-User, 'x-ctx-*']
    includeAdditionalHeadersInCheck: {X-Mesh: "yes"}
    includeRequestBodyInCheck: {maxRequestBytes: 8192, allowPartialMessage: true, packAsBytes: true}
    headersToUpstreamOnAllow: [x-role]
    headersToDownstreamOnAllow: [Set-Cookie]
    headersToDownstreamOnDeny: ['x-why*']"""
    )
    snapshots = compile_mesh(mesh(), loaded(text, ASK), trust_domain="cluster.local", revision=1)
    api = snapshots[ServiceName("shop", "api")]
    assert api.providers == (
        ExtAuthz(
            "opa",
            "outbound|9000||authz.shop",
            CheckApi.HTTP,
            "authz.shop:9000",
            "/check",
            2.5,
            fail_open=True,
            error_status=503,
            request_headers=(Exact("x-user"), Prefix("x-ctx-")),
            added_headers=(("x-mesh", "yes"),),
            body=BodyCheck(8192, allow_partial=True, as_bytes=True),
            to_upstream=(Exact("x-role"),),
            to_client_on_allow=(Exact("set-cookie"),),
            to_client_on_deny=(Prefix("x-why"),),
        ),
    )
    cluster = api.clusters["outbound|9000||authz.shop"]
    assert (cluster.transport, cluster.sni) == (Transport.MTLS, "p9000.authz.shop.mesh")
    assert (api.authorization.policies[0].action, api.authorization.policies[0].provider) == (
        Action.CUSTOM,
        "opa",
    )
    assert snapshots[ServiceName("shop", "web")].providers == ()
    assert decode_snapshot(json.loads(json.dumps(encode(api)))) == api
    (plain,) = compile_mesh(mesh(), loaded(OPA, ASK), trust_domain="cluster.local", revision=1)[
        ServiceName("shop", "api")
    ].providers
    assert (plain.timeout_s, plain.fail_open, plain.error_status, plain.body) == (1.0, False, 403, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ASK, "no extension provider is called 'opa'"),
        (OPA.replace("authz.shop", "authzz.shop"), "no service is called"),
        (OPA.replace("9000", "9009"), "has no port 9009"),
        (
            OPA.replace("authz.shop.svc.cluster.local, port: 9000", "redis.shop, port: 6379"),
            "redis.shop is tcp",
        ),
        (OPA.replace("Http:", "Grpc:"), "is http, gRPC needs grpc"),
    ],
)
def test_what_cannot_be_asked_is_an_error(text: str, says: str) -> None:
    errors = check(mesh(), loaded(text)).errors
    assert [each for each in errors if says in each.what], errors


def test_a_provider_out_of_reach_is_a_warning_and_one_in_reach_is_none() -> None:
    apart = mesh(networks=frozenset({"elsewhere"}))
    (warning,) = check(apart, loaded(OPA, ASK)).warnings
    assert "shop/api shares no network with provider opa" in warning.what
    assert not check(mesh(), loaded(OPA, ASK)).warnings
    assert not check(mesh(), loaded(OPA, ASK)).errors
