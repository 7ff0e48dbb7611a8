"""`egress_gateway`: sidecars without a way out of their own."""

from typing import Any

import pytest

from control_plane.discovery.labels import gateway_of, words
from meshpy.inject import inventory_of_stack, uninject
from meshpy.model.names import ServiceName
from tests.helpers.stacks import HEAD, injected, problems, services

STACK = (
    HEAD
    + """  web:
    image: nginx
    deploy: {labels: {meshpy.egress: "api.example.com:443,*.github.com:443", meshpy.outbound: REGISTRY_ONLY}}
  own:
    image: nginx
    deploy: {labels: {meshpy.egress: "api.example.com:443", meshpy.egress_gateway: none}}
  shown:
    image: nginx
    ports: ["80:80"]
    deploy: {labels: {meshpy.egress: "api.example.com:443"}}
  quiet:
    image: nginx
x-mesh: {egress_gateway: mesh-egress/gateway}
"""
)


def test_a_sidecar_with_a_gateway_has_no_way_out_and_its_labels_say_what_the_gateway_lets_through() -> None:
    found = services(STACK)

    def labels(name: str) -> Any:
        return found[f"{name}-sidecar"]["deploy"]["labels"]

    ways = {
        name: "egress" in found[f"{name}-sidecar"]["networks"] for name in ("web", "own", "shown", "quiet")
    }
    assert ways == {"web": False, "own": True, "shown": True, "quiet": False}
    assert gateway_of(labels("web")["meshpy.egress_gateway"]) == ServiceName("mesh-egress", "gateway")
    assert labels("web")["meshpy.outbound"] == "REGISTRY_ONLY"
    assert words(labels("web")["meshpy.patterns"]) == ("*.github.com:443",)
    assert "meshpy.egress_gateway" not in labels("own")
    assert "meshpy.egress_gateway" not in labels("quiet")
    assert uninject(injected(STACK).text) == STACK


def test_the_inventory_of_the_file_says_the_same() -> None:
    service = inventory_of_stack(STACK, "shop").services[ServiceName("shop", "web")]
    assert (service.gateway, service.outbound) == (ServiceName("mesh-egress", "gateway"), "REGISTRY_ONLY")
    assert service.patterns == ("*.github.com:443",)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("egress_gateway: mesh-egress/gateway", "egress_gateway: gateway", "'gateway' is no egress_gateway"),
        ("meshpy.egress_gateway: none", "meshpy.egress_gateway: a", "'a' is no gateway: write STACK/SERVICE"),
    ],
)
def test_a_gateway_is_named_with_its_stack(old: str, new: str, says: str) -> None:
    (problem,) = problems(STACK.replace(old, new))
    assert says in problem.what
