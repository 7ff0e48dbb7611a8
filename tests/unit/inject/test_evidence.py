"""Ports of a service come from what the file shows, and the report says from what."""

import pytest

from tests.helpers.stacks import HEAD, injected, problems


def ports(text: str, service: str = "api") -> dict[int, tuple[str, str]]:
    rows = injected(HEAD + text).report.rows
    return {row.port: (row.protocol, row.evidence) for row in rows if row.service == service}


CALLER = "  web:\n    image: nginx\n    environment:\n      - X={}\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://api:9000/x?y", {9000: "http"}),
        ("http://api", {80: "http"}),
        ("https://api/", {443: "tls"}),
        ("grpc://api:50055", {50055: "grpc"}),
        ("redis://:pw@api:6380/0", {6380: "tcp"}),
        ("postgresql+asyncpg://u:p@api/db", {5432: "tcp"}),
        ("jdbc:mysql://api/db", {3306: "tcp"}),
        ("amqp://u:p@api", {5672: "tcp"}),
        ("u:p@tcp(api:3306)/db", {3306: "tcp"}),
        ("api:7777", {7777: "tcp"}),
        ("tasks.api:8080", {8080: "http"}),
        ("shop_api:8080", {8080: "http"}),
        ("a.example.org:1,api:8080", {8080: "http"}),
        ("${URL:-http://api:81}", {81: "http"}),
    ],
)
def test_callers_tell_port_and_protocol(value: str, expected: dict[int, str]) -> None:
    found = ports(CALLER.format(value) + "  api: {image: acme/thing}\n")
    assert {port: protocol for port, (protocol, _) in found.items()} == expected
    assert all("env X of web" in evidence for _, evidence in found.values())


@pytest.mark.parametrize(
    "value",
    ["https://api.example.org", "http://api.${DOMAIN}/", "xapi:8080", "api-v2:8080", "/srv/api:8080", "api"],
)
def test_other_names_are_no_evidence(value: str) -> None:
    found = problems(HEAD + CALLER.format(value) + "  api: {image: acme/thing}\n")
    assert [(p.place.key, p.place.line) for p in found] == [("services.api", 7)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("expose: [8080]", {8080: "http"}),
        ('expose: ["3000-3001"]', {3000: "http", 3001: "http"}),
        ('ports: ["1234:7070"]', {7070: "tcp"}),
        ("labels: {meshpy.ports: 7000/http2}", {7000: "http2"}),
        ("x-mesh: {ports: [7000/http, 7001]}", {7000: "http", 7001: "tcp"}),
        ("deploy: {labels: [traefik.http.services.a.loadbalancer.server.port=5001]}", {5001: "http"}),
        ("deploy: {labels: {com.df.port: 5001}}", {5001: "http"}),
        ("deploy: {labels: {caddy.reverse_proxy: '{{upstreams 5001}}'}}", {5001: "http"}),
        ("healthcheck: {test: curl -f http://localhost:9100/healthz}", {9100: "http"}),
        ("environment: {PORT: 1}", None),
    ],
)
def test_the_service_itself_shows_its_ports(body: str, expected: dict[int, str] | None) -> None:
    text = f"  web: {{image: nginx}}\n  api:\n    image: acme/thing\n    {body}\n"
    if expected is None:
        assert problems(HEAD + text)
        return
    assert {port: protocol for port, (protocol, _) in ports(text).items()} == expected


def test_host_and_port_variables_belong_together() -> None:
    text = '  web:\n    image: nginx\n    environment: {DB_HOST: api, DB_PORT: "5433"}\n'
    text += "  api: {image: acme/thing}\n"
    assert ports(text) == {5433: ("tcp", "env DB_HOST and DB_PORT of web; protocol unknown, so opaque")}


def test_the_order_of_a_user_is_final_and_what_is_published_is_added() -> None:
    text = "  api:\n    image: postgres\n    ports: ['9:99']\n    labels: {meshpy.ports: 7000/http}\n"
    assert sorted(ports(text)) == [99, 7000]


def test_no_evidence_is_an_error_with_the_line_to_write() -> None:
    (problem,) = problems(HEAD + "  web: {image: nginx}\n  api:\n    image: acme/thing\n")
    assert str(problem.place) == "s.yml:4:3: services.api"
    assert 'meshpy.ports: "8080/http"' in problem.instead
    assert "--assume api=8080/http" in problem.instead


def test_assumed_ports_stand_for_missing_labels() -> None:
    text = HEAD + "  web: {image: nginx}\n  api: {image: acme/thing}\n  w: {image: acme/thing}\n"
    rows = injected(text, assume={"api": "81/tcp", "w": ""}).report.rows
    assert [(r.service, r.port) for r in rows] == [("web", 80), ("api", 81), ("w", 0)]
    assert "does not have" in problems(text, assume={"nope": "81"})[0].what


@pytest.mark.parametrize(
    "body",
    [
        "deploy: {mode: replicated-job}",
        "command: celery -A app worker -l info",
        "command: [bundle, exec, sidekiq]",
        "labels: {meshpy.ports: ''}",
    ],
)
def test_who_listens_on_nothing_needs_no_port(body: str) -> None:
    assert list(ports(f"  web: {{image: nginx}}\n  api:\n    image: acme/thing\n    {body}\n")) == [0]


def test_a_service_that_nobody_can_reach_needs_no_port() -> None:
    assert list(ports("  api: {image: acme/thing}\n")) == [0]
