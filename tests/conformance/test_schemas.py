"""The JSON Schemas accept what the readers accept and refuse the fields that they refuse."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from meshpy.errors import DocumentError
from meshpy.inject import inject
from meshpy.inject.short_schema import schema_of_x_mesh
from meshpy.policy import load
from meshpy.policy.schema import kinds, schema_of, schema_of_all
from tests.helpers.policies import VERSIONS, document
from tests.property import test_network_languages as languages

jsonschema_rs = pytest.importorskip("jsonschema_rs")

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
ALL = jsonschema_rs.validator_for(schema_of_all())
X_MESH = jsonschema_rs.validator_for(schema_of_x_mesh())


def yaml(text: str) -> list[Any]:
    """The documents of a text by YAML 1.2, as editors read it; keys are texts."""
    found = YAML(typ="safe", pure=True).load_all(text)
    return [json.loads(json.dumps(each)) for each in found if isinstance(each, dict)]


def _is_read(text: str) -> bool:
    try:
        load([("a.yml", text)])
    except DocumentError:
        return False
    return True


def _texts() -> Iterator[str]:
    """Documents of the docs and example stacks, of the decision tables, and random ones."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            yield from (f"{part}\n" for part in re.split(r"^---\n", block, flags=re.MULTILINE))
    for file in sorted((ROOT / "stacks").rglob("*.yaml")):
        yield from re.split(r"^---\n", file.read_text(), flags=re.MULTILINE)
    for table in ("network_policies.yml", "cilium_policies.yml"):
        for case in yaml(f"cases:\n{(HERE / table).read_text()}")[0]["cases"]:
            for policy in case["policies"]:
                yield document(policy["kind"], json.dumps(policy["spec"]), policy.get("name", "p"))
    rng = random.Random(7)
    for make in (languages.a_kubernetes_set, languages.a_calico_set, languages.a_cilium_set):
        for _ in range(20):
            yield from make(rng)[0]


EXAMPLES = [text for text in _texts() if "apiVersion" in text and _is_read(text)]


def test_every_valid_document_is_accepted() -> None:
    seen = set()
    for text in EXAMPLES:
        for value in yaml(text):
            errors = [f"{error.instance_path}: {error.message}" for error in ALL.iter_errors(value)]
            assert not errors, text
            seen.add((value["kind"], value["apiVersion"]))
    assert len(seen) > 10


def _places(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping whose keys the kind defines."""
    if isinstance(value, dict):
        yield value
        for key, item in value.items():
            if key not in ("labels", "annotations", "matchLabels", "values"):
                yield from _places(item)
    elif isinstance(value, list):
        for item in value:
            yield from _places(item)


def test_an_unknown_field_is_refused_wherever_the_reader_refuses_it() -> None:
    tried = 0
    for text in EXAMPLES[::3]:
        (value,) = yaml(text)
        for place in _places(value):
            place["xyzzy"] = "x"
            if not _is_read(json.dumps(value)):
                tried += 1
                assert not ALL.is_valid(value), json.dumps(value)
            del place["xyzzy"]
    assert tried > 150


def _refused_fields() -> list[tuple[str, str]]:
    cases = YAML(typ="safe", pure=True).load(HERE / "bad_policies.yml")
    found = []
    for case in cases:
        name = re.match(
            r"(?:the key '(\w+)' is unknown|`(\w+)` (?:has no meaning on|is not|is dep))", case["says"]
        )
        if name and case["key"].endswith(f".{name[1] or name[2]}"):
            found.append((case["kind"], case["spec"]))
    return found


@pytest.mark.parametrize(("kind", "spec"), _refused_fields())
def test_a_field_that_is_refused_is_not_in_the_schema(kind: str, spec: str) -> None:
    (value,) = yaml(document(kind, spec))
    assert not ALL.is_valid(value)


def test_each_kind_has_a_schema_that_names_its_versions() -> None:
    for kind, version in VERSIONS.items():
        assert version in schema_of(kind)["properties"]["apiVersion"]["enum"]
    assert set(VERSIONS) <= set(kinds())
    wrong = {"apiVersion": "v1", "kind": "NetworkPolicy", "metadata": {"name": "a"}, "spec": {}}
    assert ALL.is_valid({**wrong, "apiVersion": "networking.k8s.io/v1", "spec": {"podSelector": {}}})
    assert not ALL.is_valid({**wrong, "kind": "Nope"})


STACK = """
x-mesh:
  default_deny: true
  mtls: strict
  timeout: 5s
  retries: {attempts: 2, perTryTimeout: 1s}
  hosts: {catalog: {routes: [{headers: {x-user: beta*}, to: catalog}, {to: {catalog: 90, api: 10}}]}}
  policies:
  - {apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: a}, spec: {selector: all()}}
services:
  catalog: {image: x, labels: {meshpy.host: catalog, meshpy.ports: 8080/http}}
  api:
    image: x
    x-mesh:
      ports: [8080/http]
      allow: [web, {from: [catalog], methods: [GET], paths: /v1/*}]
      deny: [{paths: [/admin/*]}]
      timeout: 2s
      retries: 3
      routes: [{path: [/a, /b/*], method: GET, to: 'api:8080', timeout: 1s}]
  web: {image: x, ports: ["80:80"], x-mesh: {allow: external}}
"""


def test_x_mesh_is_accepted_where_inject_accepts_it() -> None:
    inject(STACK, stack="shop")
    (value,) = yaml(STACK)
    assert not [error.message for error in X_MESH.iter_errors(value)]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("default_deny: true", "default_deny: 'yes'"),
        ("default_deny: true", "default-deny: true"),
        ("mtls: strict", "mtls: always"),
        ("deny: [{paths", "deny: [{path"),
        ("timeout: 2s", "timout: 2s"),
        ("retries: 3", "retries: many times"),
        ("hosts: {catalog: {routes", "hosts: {catalog: {route"),
        ("to: 'api:8080'", "too: api"),
        ("spec: {selector: all()}", "spec: {selecter: all()}"),
    ],
)
def test_x_mesh_is_refused_where_inject_refuses_it(right: str, wrong: str) -> None:
    text = STACK.replace(right, wrong)
    assert text != STACK
    with pytest.raises(DocumentError):
        inject(text, stack="shop")
    (value,) = yaml(text)
    assert not X_MESH.is_valid(value)
