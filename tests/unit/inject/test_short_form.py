"""Policies in the stack file say what their long form says, and are wrong where the user wrote them."""

from __future__ import annotations

import json

import pytest

from meshpy.compile import check, compile_mesh
from meshpy.errors import DocumentError, Problem
from meshpy.inject import inject, inventory_of_stack, policies_of_stack, uninject
from meshpy.policy import load_documents

HEAD = """\
services:
  web:
    image: x
    ports: ["8000:8080"]
    environment: {API: "http://api:8080"}
  redis:
    image: redis
  api:
    image: x
    environment: {R: "redis:6379"}
"""


ROOT = "x-mesh: {default_deny: true, mtls: strict, timeout: 3s, retries: 1}\n"


def stated(*lines: str, root: str = "", head: str = HEAD) -> dict[str, dict]:
    """Name → spec of every document."""
    text = root + head + "".join(f"    {line}\n" for line in lines)
    found = policies_of_stack(text, "shop", "stack.yml")
    specs = {doc.name: json.loads(doc.text)["spec"] for doc in found if doc.name.startswith("x-mesh")}
    assert load_documents(found).documents == found
    return specs


def problems(*lines: str, root: str = "") -> tuple[Problem, ...]:
    try:
        stated(*lines, root=root)
    except DocumentError as error:
        return error.problems
    return ()


def test_a_stack_that_states_nothing_has_no_policies() -> None:
    assert stated() == {}


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        ("x-mesh: {allow: [web]}", [{"from": [{"source": {"serviceAccounts": ["web"]}}]}]),
        ("x-mesh: {allow: web}", [{"from": [{"source": {"serviceAccounts": ["web"]}}]}]),
        (
            "labels: {meshpy.allow: 'web, blog/web'}",
            [{"from": [{"source": {"serviceAccounts": [name]}} for name in ("web", "blog/web")]}],
        ),
        ("x-mesh: {allow: [blog/*]}", [{"from": [{"source": {"namespaces": ["blog"]}}]}]),
        ("x-mesh: {allow: [external]}", [{"from": [{"source": {"notPrincipals": ["*"]}}]}]),
        ("x-mesh: {allow: ['*']}", [{}]),
        (
            "x-mesh: {allow: [{from: web, methods: [GET], paths: /v1/*, ports: [8080]}]}",
            [
                {
                    "from": [{"source": {"serviceAccounts": ["web"]}}],
                    "to": [{"operation": {"methods": ["GET"], "paths": ["/v1/*"], "ports": ["8080"]}}],
                }
            ],
        ),
    ],
)
def test_allow_is_an_authorization_policy_of_the_service(line: str, rules: list) -> None:
    (spec,) = stated(line).values()
    assert spec["targetRefs"] == [{"group": "", "kind": "Service", "name": "api"}]
    assert (spec["action"], spec["rules"]) == ("ALLOW", rules)


def test_allow_nobody_and_deny_some() -> None:
    found = stated("x-mesh: {allow: [], deny: [{paths: [/admin/*]}]}")
    assert "rules" not in found["x-mesh-api-allow"]
    assert found["x-mesh-api-deny"]["rules"] == [{"to": [{"operation": {"paths": ["/admin/*"]}}]}]


def test_timeout_and_retries_are_a_virtual_service() -> None:
    found = stated("x-mesh: {timeout: 2s, retries: {attempts: 1, perTryTimeout: 500ms}}")
    (route,) = found["x-mesh-api"]["http"]
    assert route["timeout"] == "2s"
    assert route["retries"] == {"attempts": 1, "perTryTimeout": "500ms"}
    assert stated("deploy: {labels: [meshpy.retries=4]}")["x-mesh-api"]["http"][0]["retries"] == {
        "attempts": 4
    }


def test_routes_come_before_the_rest() -> None:
    found = stated(
        "x-mesh:",
        "  timeout: 1s",
        "  routes:",
        "  - {path: [/a, /b/*], method: GET, headers: {x-user: beta*}, to: {web: 90, 'api:8080': 10}}",
        "  - {path: /slow, to: api, timeout: 30s}",
    )
    first, second, rest = found["x-mesh-api"]["http"]
    assert first["match"] == [
        {"uri": uri, "method": {"exact": "GET"}, "headers": {"x-user": {"prefix": "beta"}}}
        for uri in ({"exact": "/a"}, {"prefix": "/b/"})
    ]
    assert [target["weight"] for target in first["route"]] == [90, 10]
    assert first["route"][1]["destination"] == {"host": "api", "port": {"number": 8080}}
    assert (first["timeout"], second["timeout"], rest["timeout"]) == ("1s", "30s", "1s")
    assert rest["route"] == [{"destination": {"host": "api"}}]


def test_the_root_states_for_every_http_service_that_says_nothing() -> None:
    found = stated("x-mesh: {timeout: 9s}", root=ROOT)
    assert found["x-mesh-default-deny"] == {}
    assert found["x-mesh-mtls"] == {"mtls": {"mode": "STRICT"}}
    assert found["x-mesh-web"]["http"][0]["timeout"] == "3s"
    assert found["x-mesh-api"]["http"][0] == {
        "route": [{"destination": {"host": "api"}}],
        "timeout": "9s",
        "retries": {"attempts": 1},
    }
    assert "x-mesh-redis" not in found


def test_a_name_that_services_share_is_stated_at_the_root() -> None:
    head = "services:\n" + "".join(
        f"  c{n}:\n    image: x\n    labels: {{meshpy.host: catalog, meshpy.ports: 8080/http}}\n"
        for n in "12"
    )
    found = stated(root="x-mesh: {hosts: {catalog: {routes: [{to: {c1: 9, c2: 1}}]}}}\n", head=head)
    (route,) = found["x-mesh-catalog"]["http"]
    assert [target["destination"]["host"] for target in route["route"]] == ["c1", "c2"]


def test_whole_documents_stand_at_the_root_and_keep_their_places() -> None:
    root = """\
x-mesh:
  policies:
  - apiVersion: projectcalico.org/v3
    kind: NetworkPolicy
    metadata: {name: mine}
    spec:
      selector: app == 'api'
"""
    (document,) = policies_of_stack(root + HEAD, "shop", "stack.yml")
    assert (document.kind, document.namespace, document.name) == ("NetworkPolicy", "shop", "mine")
    (problem,) = problems(root=root.replace("selector", "selectr"))
    assert (problem.place.file, problem.place.line, problem.place.column) == ("stack.yml", 7, 7)


@pytest.mark.parametrize(
    ("line", "root", "place", "key", "says"),
    [
        ("x-mesh: {alow: [web]}", "", (11, 14), "services.api.x-mesh.alow", "the mesh knows no `alow`"),
        ("x-mesh: {allow: [wbe]}", "", (11, 22), "services.api.x-mesh.allow[0]", "'wbe' is no service"),
        ("x-mesh: {allow: [{form: web}]}", "", (11, 23), "services.api.x-mesh.allow[0].form", "is unknown"),
        ("x-mesh: {allow: [{}]}", "", (11, 22), "services.api.x-mesh.allow[0]", "says nothing"),
        ("x-mesh: {deny: []}", "", (11, 20), "services.api.x-mesh.deny", "the list is empty"),
        ("x-mesh: {timeout: 5}", "", (11, 23), "services.api.x-mesh.timeout", "a duration is needed"),
        ("x-mesh: {retries: many}", "", (11, 23), "services.api.x-mesh.retries", "a whole number"),
        (
            "x-mesh: {retries: {attempt: 1}}",
            "",
            (11, 24),
            "services.api.x-mesh.retries.attempt",
            "is unknown",
        ),
        ("x-mesh: {routes: [{path: /a}]}", "", (11, 23), "services.api.x-mesh.routes[0]", "`to` is missing"),
        ("x-mesh: {routes: [{to: wbe}]}", "", (11, 28), "services.api.x-mesh.routes[0].to", "'wbe' is no"),
        (
            "labels: {meshpy.allow: wbe}",
            "",
            (11, 14),
            "services.api.labels.meshpy.allow",
            "'wbe' is no service",
        ),
        ("labels: {meshpy.routes: a}", "", (11, 14), "services.api.labels.meshpy.routes", "is no text"),
        ("", "x-mesh: {default_deny: yes}\n", (1, 24), "x-mesh.default_deny", "true or false is needed"),
        ("", "x-mesh: {mtls: on}\n", (1, 16), "x-mesh.mtls", "'on' is not one of"),
        ("", "x-mesh: {hosts: {nope: {timeout: 1s}}}\n", (1, 24), "x-mesh.hosts[nope]", "is called 'nope'"),
        ("", "x-mesh: {defaultdeny: true}\n", (1, 10), "x-mesh.defaultdeny", "the mesh knows no"),
    ],
)
def test_a_mistake_is_named_where_it_stands(line, root, place, key, says) -> None:
    problem = problems(*([line] if line else []), root=root)[0]
    assert (problem.place.line, problem.place.column, problem.place.key) == (*place, key)
    assert says in problem.what


def test_an_opaque_service_has_no_routes() -> None:
    head = HEAD.replace("    image: redis\n", "    image: redis\n    x-mesh: {timeout: 1s}\n")
    with pytest.raises(DocumentError, match="redis has no HTTP port"):
        stated(head=head)


def test_inject_refuses_wrong_policies_and_gives_right_ones_back() -> None:
    text = HEAD + "    x-mesh: {allow: [web], retries: 2}\n"
    injected = inject(text, stack="shop").text
    assert uninject(injected) == text
    assert policies_of_stack(injected, "shop") == policies_of_stack(text, "shop")
    with pytest.raises(DocumentError):
        inject(text.replace("[web]", "[wbe]"), stack="shop")


def test_stated_policies_compile_without_findings() -> None:
    root = "x-mesh: {default_deny: true, timeout: 3s}\n"
    text = root + HEAD + "    x-mesh: {allow: [web], deny: [{from: redis}], routes: [{path: /a, to: web}]}\n"
    inventory = inventory_of_stack(text, "shop")
    policies = load_documents(policies_of_stack(text, "shop"))
    findings = check(inventory, policies)
    assert findings.errors == findings.warnings == ()
    assert compile_mesh(inventory, policies, trust_domain="cluster.local", revision=1)
