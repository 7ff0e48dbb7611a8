"""RequestAuthentications reach the workloads that they attach to, with the keys that are known."""

from __future__ import annotations

import json

from meshpy.compile import check, compile_mesh
from meshpy.compile.authentication import keys_uris
from meshpy.model.authn import JwtRule, TokenHeader
from meshpy.model.names import ServiceName
from meshpy.wire import decode_snapshot, encode
from tests.helpers.policies import document, loaded, shop
from tests.helpers.tokens import jwks, key

URI = "https://idp.test/jwks"
KEYS = jwks(key())


def rules(workload: str, *texts: str, keys: dict[str, str] | None = None) -> tuple[JwtRule, ...]:
    mesh = compile_mesh(shop(), loaded(*texts), trust_domain="cluster.local", revision=1, keys=keys)
    snapshot = mesh[ServiceName.parse(workload, "shop")]
    assert decode_snapshot(json.loads(json.dumps(encode(snapshot)))) == snapshot
    return snapshot.jwt


def request_authentication(spec: str, attach: str = "", name: str = "p", namespace: str = "shop") -> str:
    return document("RequestAuthentication", f"{attach}\njwtRules: [{spec}]".lstrip(), name, namespace)


def test_every_field_has_its_meaning() -> None:
    text = document(
        "RequestAuthentication",
        """
        jwtRules:
        - issuer: https://idp.test
          audiences: [a, b]
          jwksUri: https://idp.test/jwks
          fromHeaders: [{name: X-Jwt, prefix: 'Token '}]
          fromParams: [tok]
          fromCookies: [session]
          forwardOriginalToken: true
          outputPayloadToHeader: X-Payload
          outputClaimToHeaders: [{header: X-Sub, claim: sub}, {header: x-org, claim: org.name}]
          spaceDelimitedClaims: [roles]
          timeout: 2s
        """,
    )
    expected = JwtRule(
        "RequestAuthentication shop/p",
        "jwtRules[0]",
        "https://idp.test",
        ("a", "b"),
        KEYS,
        (TokenHeader("x-jwt", "Token "),),
        ("tok",),
        ("session",),
        forward=True,
        payload_header="x-payload",
        claim_headers=(("x-sub", ("sub",)), ("x-org", ("org", "name"))),
        space_delimited=("roles",),
    )
    assert rules("api", text, keys={URI: KEYS}) == (expected,)
    assert keys_uris(loaded(text)) == {URI: 2.0}


def test_defaults_are_istio_s() -> None:
    (rule,) = rules("api", request_authentication(f"{{issuer: me, jwks: '{KEYS}'}}"))
    assert rule.from_headers == (TokenHeader("authorization", "Bearer "),)
    assert (rule.from_params, rule.from_cookies, rule.forward) == (("access_token",), (), False)
    assert rule.jwks == KEYS


def test_keys_that_are_not_fetched_yet_are_absent_and_discovery_is_the_issuer_s() -> None:
    found = request_authentication("{issuer: 'https://idp.test/realms/x/'}")
    assert rules("api", found)[0].jwks == ""
    assert keys_uris(loaded(found)) == {"https://idp.test/realms/x/.well-known/openid-configuration": 5.0}


def test_policies_of_root_namespace_and_workload_add_up() -> None:
    root = request_authentication(f"{{issuer: root, jwks: '{KEYS}'}}", namespace="mesh-system")
    own = request_authentication(
        f"{{issuer: own, jwks: '{KEYS}'}}", "selector: {matchLabels: {app: api}}", "own"
    )
    ref = request_authentication(
        f"{{issuer: ref, jwks: '{KEYS}'}}", "targetRefs: [{kind: Service, name: web}]", "ref"
    )
    issuers = {
        name: [rule.issuer for rule in rules(name, root, own, ref)]
        for name in ("api", "web", "catalog-v1", "blog/web")
    }
    assert issuers == {
        "api": ["root", "own"],
        "web": ["root", "ref"],
        "catalog-v1": ["root"],
        "blog/web": ["root"],
    }


def test_a_policy_for_ports_without_requests_is_warned_of() -> None:
    text = request_authentication(f"{{issuer: a, jwks: '{KEYS}'}}", "selector: {matchLabels: {app: redis}}")
    (warning,) = check(shop(), loaded(text)).warnings
    assert "redis speak no HTTP" in warning.what
    lost = request_authentication(f"{{issuer: a, jwks: '{KEYS}'}}", "selector: {matchLabels: {app: rediss}}")
    (error,) = check(shop(), loaded(lost)).errors
    assert (error.place.line, "app=rediss" in error.what) == (5, True)
