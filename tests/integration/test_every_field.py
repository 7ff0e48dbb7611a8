"""Every field of every kind, as far as it goes: documents → control plane → sidecar processes → requests.

The sets are those of tests/conformance/every_field.yml.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from meshpy.policy.schema import kinds, schema_of
from tests.helpers.live_mesh import Ask, differs, live_mesh
from tests.helpers.policies import document

FILE = Path(__file__).parents[1] / "conformance" / "every_field.yml"
SETS: list[dict[str, Any]] = YAML(typ="safe", pure=True).load(FILE)


def _documents(one: dict[str, Any], kind: str) -> list[tuple[str, dict[str, Any], str]]:
    """Kind, spec and text of each document of a set."""
    own = {"kind": kind, "spec": one["spec"], "namespace": one.get("namespace", "shop")}
    found = []
    for each in ({**own, "labels": one.get("labels")}, *one.get("with", ())):
        spec = each["spec"]
        if each["kind"].startswith("Staged"):
            spec = {**spec, "stagedAction": "Set"}
        more = f", labels: {json.dumps(each['labels'])}" if each.get("labels") else ""
        text = document(
            each["kind"], json.dumps(spec), each.get("name", "p"), each.get("namespace", "shop"), more
        )
        found.append((each["kind"], spec, text))
    return found


def _keys(schema: dict[str, Any], at: str = "") -> Iterator[str]:
    """Where a schema knows a key, as a path."""
    for form in schema.get("anyOf", (schema,)):
        for key, inner in form.get("properties", {}).items():
            yield f"{at}.{key}"
            yield from _keys(inner, f"{at}.{key}")
        if isinstance(form.get("additionalProperties"), dict):
            yield from _keys(form["additionalProperties"], f"{at}.*")
        yield from _keys(form.get("items") or {}, f"{at}[]") if form.get("type") == "array" else ()


def _written(value: Any, at: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            for step in (f"{at}.{key}", f"{at}.*"):
                yield step
                yield from _written(item, step)
    elif isinstance(value, list):
        for item in value:
            yield from _written(item, f"{at}[]")


REFUSED = (
    "k8sServiceSelector.match",  # read in the place of a selector that is left out
    ".egress[].http",
    "Deny[].toPorts[].rules",
    ".extensionRef",
    ".externalAuth",
    ".requestMirror.group",
    ".requestMirror.kind",
    ".requestMirror.name",
    ".requestMirror.port",
)
"""What the schema knows because the reader looks at it, and the reader refuses with a word of its own."""
NOT_OF_GRPC = (".cors", ".requestRedirect", ".urlRewrite")


def test_the_sets_write_every_field_that_a_kind_accepts():
    seen: dict[str, set[str]] = {}
    for one in SETS:
        for kind in one["kinds"]:
            for each, spec, _ in _documents(one, kind):
                seen.setdefault(each, set()).update(_written(spec))
    assert seen.keys() == set(kinds())
    for kind in kinds():
        known = set(_keys(schema_of(kind)["properties"]["spec"]))
        left = {
            path
            for path in known - seen[kind]
            if not path.startswith((".matchLabels", ".matchExpressions"))
            and not any(part in path for part in REFUSED)
            and not (kind == "GRPCRoute" and path.endswith(NOT_OF_GRPC))
        }
        assert not left, kind


async def test_sidecars_take_every_field_and_do_what_explain_says(tmp_path):
    asked = 0
    async with live_mesh(tmp_path) as mesh:
        for one in SETS:
            asks = [Ask.parse(line) for line in (*one.get("asks", ()), "POST api /b", "GET catalog /")]
            for kind in one["kinds"]:
                texts = [text for _, _, text in _documents(one, kind)]
                await mesh.put(texts)
                for ask in asks:
                    said, answer = mesh.explain(texts, ask), await mesh.send(ask)
                    assert not differs(said, answer), (one["name"], kind, ask, said.to_json(), answer)
                    asked += 1
    assert asked > 100
