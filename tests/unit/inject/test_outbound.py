"""Apps that get a forward proxy: its name, its variables, its sidecar's way out."""

import pytest

from meshpy.inject import InjectOptions, inject, uninject
from tests.helpers.stacks import HEAD, injected, model, problems, services

STACK = (
    HEAD
    + """  web:
    image: nginx
    environment:
      A: b   # kept
      HTTP_PROXY: http://mine:3128
    deploy: {labels: {meshpy.egress: "api.example.com:443,*.github.com:443"}}
  list:
    image: nginx
    environment:
      - A=b
  closed:
    image: nginx
    deploy: {labels: {meshpy.outbound: CLOSED}}
x-mesh: {outbound: REGISTRY_ONLY}
"""
)


def test_an_app_finds_its_proxy_by_the_usual_variables_and_keeps_its_own() -> None:
    found = services(STACK)
    environment = found["web"]["environment"]
    assert environment["HTTP_PROXY"] == "http://mine:3128"
    assert environment["https_proxy"] == "http://meshpy-egress:15001"
    direct = environment["NO_PROXY"].split(",")
    assert {"localhost", "list", "shop_list", "web"} <= set(direct)
    assert "api.example.com" not in direct
    assert found["list"]["environment"][:2] == ["A=b", "HTTP_PROXY=http://meshpy-egress:15001"]
    assert "environment" not in found["closed"]
    assert "A: b   # kept" in injected(STACK).text


def test_its_sidecar_answers_to_the_name_and_has_a_way_out() -> None:
    found = services(STACK)
    sidecar = found["web-sidecar"]
    assert "api.example.com" not in sidecar["networks"]["web-pod"]["aliases"]
    assert sidecar["deploy"]["labels"]["meshpy.egress"] == "api.example.com:443/tls"
    assert "meshpy-egress" in sidecar["networks"]["web-pod"]["aliases"]
    assert "egress" in sidecar["networks"]
    assert sidecar["environment"]["MESHPY_OUTBOUND"] == "REGISTRY_ONLY"
    assert sidecar["environment"]["MESHPY_OUTBOUND_BIND"].endswith("_web-pod")
    assert sidecar["environment"]["MESHPY_OUTBOUND_HOSTS"] == "*.github.com:443"
    assert "egress" not in found["closed-sidecar"]["networks"]
    assert "MESHPY_OUTBOUND" not in found["closed-sidecar"]["environment"]


def test_an_outside_host_that_only_an_alias_stands_for_has_one_and_a_way_out() -> None:
    text = STACK.replace("x-mesh: {outbound: REGISTRY_ONLY}\n", "").replace(",*.github.com:443", "")
    sidecar = services(text)["web-sidecar"]
    assert "api.example.com" in sidecar["networks"]["web-pod"]["aliases"]
    assert "egress" in sidecar["networks"]


def test_without_it_nothing_of_an_app_changes_and_it_goes_back() -> None:
    plain = model(
        injected(
            STACK.replace("x-mesh: {outbound: REGISTRY_ONLY}\n", "").replace(",*.github.com:443", "")
        ).text
    )
    assert plain["services"]["list"]["environment"] == ["A=b"]
    assert uninject(injected(STACK).text) == STACK
    by_option = inject(STACK, stack="s", options=InjectOptions(outbound="ALLOW_ANY")).text
    assert model(by_option)["services"]["list-sidecar"]["environment"]["MESHPY_OUTBOUND"] == "ALLOW_ANY"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("x-mesh: {outbound: REGISTRY_ONLY}", "x-mesh: {outbound: ANY}", "'ANY' is no outbound"),
        ("x-mesh: {outbound: REGISTRY_ONLY}\n", "", "is a pattern, for which no alias can stand"),
        ("meshpy.outbound: CLOSED", "meshpy.outbound: SHUT", "'SHUT' is not ALLOW_ANY"),
        ("*.github.com:443", "*.com*:443", "is no pattern"),
    ],
)
def test_what_means_nothing_is_refused_with_its_place(old: str, new: str, says: str) -> None:
    found = problems(STACK.replace(old, new))
    assert any(says in str(each) for each in found), found
