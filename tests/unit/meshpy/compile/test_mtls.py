"""PeerAuthentication: which ports callers without identity may not use, by the narrowest policy."""

from __future__ import annotations

import pytest

from meshpy.compile import check, compile_mesh
from meshpy.model.names import ServiceName
from tests.helpers.policies import document, loaded, shop

MESH = document("PeerAuthentication", "mtls: {mode: STRICT}", "mesh", "mesh-system")
SHOP = document("PeerAuthentication", "mtls: {mode: STRICT}", "shop")
OPEN = document("PeerAuthentication", "mtls: {mode: PERMISSIVE}", "open")
UNSET = document("PeerAuthentication", "mtls: {mode: UNSET}", "unset")
WEB = "selector: {matchLabels: {app: web}}\n"


def own(spec: str, name: str = "own") -> str:
    return document("PeerAuthentication", WEB + spec, name)


def strict(workload: str, *texts: str) -> dict[int, str]:
    mesh = compile_mesh(shop(), loaded(*texts), trust_domain="cluster.local", revision=1)
    found = mesh[ServiceName.parse(workload, "shop")].authorization.strict
    return {each.port: each.policy.removeprefix("PeerAuthentication ") for each in found}


@pytest.mark.parametrize(
    ("texts", "web", "blog"),
    [
        ((), {}, {}),
        ((MESH,), {80: "mesh-system/mesh"}, {80: "mesh-system/mesh", 81: "mesh-system/mesh"}),
        ((SHOP,), {80: "shop/shop"}, {}),
        ((MESH, OPEN), {}, {80: "mesh-system/mesh", 81: "mesh-system/mesh"}),
        ((MESH, UNSET), {80: "mesh-system/mesh"}, {80: "mesh-system/mesh", 81: "mesh-system/mesh"}),
        ((SHOP, own("mtls: {mode: PERMISSIVE}")), {}, {}),
        ((SHOP, own("mtls: {}")), {80: "shop/shop"}, {}),
        ((SHOP, own("portLevelMtls: {80: {mode: PERMISSIVE}}")), {}, {}),
        ((SHOP, own("portLevelMtls: {80: {mode: UNSET}}")), {80: "shop/shop"}, {}),
        ((own("mtls: {mode: PERMISSIVE}\nportLevelMtls: {80: {mode: STRICT}}"),), {80: "shop/own"}, {}),
        ((own("mtls: {mode: STRICT}\nportLevelMtls: {80: {}}"),), {80: "shop/own"}, {}),
        (
            (document("PeerAuthentication", "mtls: {mode: STRICT}", "b", "blog"),),
            {},
            {80: "blog/b", 81: "blog/b"},
        ),
    ],
)
def test_the_narrowest_mode_that_is_set_counts(texts, web, blog) -> None:
    assert strict("web", *texts) == web
    assert strict("blog/web", *texts) == blog


def test_two_policies_of_a_level_are_an_error_and_the_stricter_one_holds() -> None:
    for pair in ((SHOP, OPEN), (own("mtls: {mode: STRICT}"), own("mtls: {mode: PERMISSIVE}", "two"))):
        errors = check(shop(), loaded(*pair)).errors
        assert errors
        assert "both decide for" in errors[0].what
        assert strict("web", *pair)
    assert not check(shop(), loaded(SHOP, MESH, own("mtls: {mode: PERMISSIVE}"))).errors


def test_a_published_port_that_strict_closes_is_warned_of() -> None:
    warnings = check(shop(), loaded(SHOP)).warnings
    assert [each for each in warnings if "port 80 of shop/web is reached from outside" in each.what]
    kept_open = own("portLevelMtls: {80: {mode: PERMISSIVE}}")
    assert not check(shop(), loaded(SHOP, kept_open)).warnings


def test_a_port_that_no_selected_service_has_is_an_error() -> None:
    (error,) = check(shop(), loaded(own("portLevelMtls: {8443: {mode: STRICT}}"))).errors
    assert "has the port 8443" in error.what


def test_the_mesh_says_how_many_proxies_are_trusted() -> None:
    text = document("MeshConfig", "defaultConfig: {gatewayTopology: {numTrustedProxies: 2}}", "mesh")
    mesh = compile_mesh(shop(), loaded(text), trust_domain="cluster.local", revision=1)
    assert {snapshot.authorization.trusted_proxies for snapshot in mesh.values()} == {2}
    (error,) = check(shop(), loaded(text, text.replace("name: mesh", "name: other"))).errors
    assert "a second MeshConfig" in error.what
