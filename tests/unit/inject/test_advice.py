"""What the report says of services whose updates callers would feel."""

from __future__ import annotations

import pytest

from tests.helpers.stacks import HEAD, injected

CHECK = "healthcheck: {test: [CMD, true]}"


@pytest.mark.parametrize(
    ("service", "deploy", "says"),
    [
        (CHECK, "replicas: 2", []),
        (CHECK, "update_config: {order: start-first}", []),
        (CHECK, "mode: global", []),
        (CHECK, "labels: {}", ["one replica that stops"]),
        (CHECK, "replicas: 1", ["one replica that stops"]),
        ("healthcheck: {disable: true}", "replicas: 2", ["no healthcheck"]),
        ("healthcheck: {test: NONE}", "replicas: 2", ["no healthcheck"]),
        ("healthcheck: {interval: 5s}", "replicas: 2", ["no healthcheck"]),
        ("init: true", "replicas: 2", ["no healthcheck"]),
        ("init: true", "mode: replicated-job", []),
        ("init: true", "replicas: 0", ["no healthcheck"]),
    ],
)
def test_an_update_that_callers_would_feel_is_named(service: str, deploy: str, says: list[str]) -> None:
    text = f"{HEAD}  web:\n    image: nginx\n    {service}\n    ports: ['80:80']\n    deploy: {{{deploy}}}\n"
    notes = [note for note in injected(text).report.notes if "updated" in note]
    assert len(notes) == len(says)
    assert all(note.startswith(f"web: {fact}") for note, fact in zip(notes, says, strict=True))


def test_who_may_ask_for_every_task_of_a_name_is_told_that_it_is_one_address() -> None:
    text = f"{HEAD}  web: {{image: nginx, environment: {{A: 'http://tasks.api:80', B: 'http://tasks.web:80'}}}}\n"
    text += "  api: {image: nginx}\n"
    assert [note for note in injected(text).report.notes if "tasks." in note] == [
        "web: tasks.api leads to one address, its sidecar's; who asks for every task by it finds one"
    ]


def test_a_prometheus_stays_outside_as_it_scrapes_task_by_task() -> None:
    text = (
        f"{HEAD}  prometheus: {{image: 'prom/prometheus:v3', ports: ['90:9090']}}\n  api: {{image: nginx}}\n"
    )
    assert injected(text).report.exempt == {
        "prometheus": "it scrapes every task of a name, for which the mesh has one address"
    }
    meshed = text.replace("ports:", "labels: {meshpy.enable: 'true'}, ports:")
    assert injected(meshed).report.exempt == {}


def test_services_of_one_fact_share_a_line() -> None:
    text = f"{HEAD}  web: {{image: nginx, ports: ['80:80']}}\n  db: {{image: 'postgres:16'}}\n"
    assert sum(note.startswith("web, db: ") for note in injected(text).report.notes) == 2
