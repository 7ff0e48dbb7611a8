"""A permissive injection: sidecars beside the apps, which keep all that they had."""

import pytest

from meshpy.cli.stack_deploy import are_apps_first
from meshpy.inject import InjectOptions, inject, uninject, without_sidecars
from tests.helpers.stacks import HEAD, model

STACK = (
    HEAD
    + """  web:
    image: nginx
    ports: ["80:80"]
    deploy: {labels: {traefik.enable: "true"}}
  api:
    image: acme/api
    networks: {back: {aliases: [backend]}}   # kept
    deploy: {labels: {meshpy.ports: 8080/http}}
networks:
  back:
"""
)


def permissive(text: str = STACK, **options):
    return inject(text, stack="shop", options=InjectOptions(permissive=True, **options))


def test_apps_keep_networks_ports_and_proxy_labels_and_get_a_pod_network() -> None:
    services = model(permissive().text)["services"]
    assert services["web"]["networks"] == ["default", "web-pod"]
    assert services["api"]["networks"] == {"back": {"aliases": ["backend"]}, "api-pod": None}
    assert services["web"]["ports"] == ["80:80"]
    assert services["web"]["deploy"]["labels"] == {"traefik.enable": "true"}
    assert "ports" not in services["web-sidecar"]
    assert "traefik.enable" not in services["web-sidecar"]["deploy"]["labels"]


def test_a_sidecar_answers_to_its_apps_names_on_the_old_networks() -> None:
    sidecar = model(permissive().text)["services"]["api-sidecar"]
    assert {"api", "backend", "shop_api", "tasks.api"} <= set(sidecar["networks"]["back"]["aliases"])
    assert sidecar["deploy"]["labels"]["meshpy.permissive"] == "shop_back"
    assert sidecar["deploy"]["labels"]["meshpy.ingress"] == "8080"


def test_it_is_said_in_the_report_and_can_be_said_in_the_file() -> None:
    assert permissive().report.permissive
    assert any("permissive" in note for note in permissive().report.notes)
    in_file = inject(STACK + "x-mesh: {permissive: true}\n", stack="shop")
    assert in_file.report.permissive


def test_strict_follows_permissive_from_the_injected_file_and_both_go_back() -> None:
    strict = inject(STACK, stack="shop", options=InjectOptions(permissive=False)).text
    again = inject(permissive().text, stack="shop", options=InjectOptions(permissive=False)).text
    assert again == strict
    assert uninject(permissive().text) == STACK
    assert inject(permissive().text, stack="shop").text == permissive().text


def test_the_apps_alone_are_the_same_text_without_the_sidecars() -> None:
    text = permissive().text
    assert list(model(without_sidecars(text))["services"]) == ["web", "api"]
    flow = inject("services: {db: {image: redis}}\n", stack="shop").text
    assert list(model(without_sidecars(flow))["services"]) == ["db"]
    assert model(without_sidecars(flow))["services"]["db"]["networks"] == ["db-pod"]


def service(**labels: str) -> dict:
    return {"Spec": {"Labels": {name.replace("_", "."): value for name, value in labels.items()}}}


@pytest.mark.parametrize(
    ("before", "is_permissive", "apps_first"),
    [
        ({}, False, False),
        ({}, True, False),
        ({"a": service()}, False, False),
        ({"a": service()}, True, True),
        ({"a": service(meshpy_workload="a")}, True, False),
        ({"a": service(meshpy_workload="a", meshpy_permissive="n")}, False, True),
        ({"a": service(meshpy_workload="a", meshpy_permissive="n")}, True, False),
    ],
)
def test_apps_go_first_on_the_way_in_and_on_the_way_out_of_permissive(before, is_permissive, apps_first):
    assert are_apps_first(before, is_permissive=is_permissive) is apps_first
