"""What the policy tools print as SARIF obeys the rules of SARIF 2.1.0 (OASIS), written here from its text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from meshpy.cli.policy import policy

jsonschema_rs = pytest.importorskip("jsonschema_rs")

ROOT = Path(__file__).parents[2]
TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    """§3: nobody may add properties of his own but in a property bag."""
    bag = {"properties": {"type": "object"}}
    return {
        "type": "object",
        "required": required,
        "properties": {**properties, **bag},
        "additionalProperties": False,
    }


def _list(item: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": item, **more}


POSITIVE = {"type": "integer", "minimum": 1}
REGION = _object(
    ["startLine"], startLine=POSITIVE, startColumn=POSITIVE, endLine=POSITIVE, endColumn=POSITIVE
)
ARTIFACT = _object([], uri={"type": "string", "format": "uri-reference"}, uriBaseId={"type": "string"})
PHYSICAL = _object(["artifactLocation"], artifactLocation=ARTIFACT, region=REGION)
LOCATION = _object([], physicalLocation=PHYSICAL, logicalLocations=_list({"type": "object"}), message=TEXT)
RESULT = _object(
    ["message"],
    ruleId={"type": "string"},
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    message=TEXT,
    locations=_list(LOCATION),
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
)
RULE = _object(
    ["id"],
    id={"type": "string"},
    name={"type": "string"},
    shortDescription=TEXT,
    fullDescription=TEXT,
    help=TEXT,
    helpUri={"type": "string", "format": "uri"},
    defaultConfiguration=_object([], level=LEVEL),
)
DRIVER = _object(
    ["name"],
    name={"type": "string"},
    version={"type": "string"},
    semanticVersion={"type": "string"},
    informationUri={"type": "string", "format": "uri"},
    rules=_list(RULE, uniqueItems=True),
)
RUN = _object(
    ["tool"],
    tool=_object(["driver"], driver=DRIVER),
    results=_list(RESULT),
    automationDetails=_object([], id={"type": "string"}, guid={"type": "string"}),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    invocations=_list({"type": "object", "required": ["executionSuccessful"]}),
)
LOG = _object(
    ["version", "runs"],
    version={"const": "2.1.0"},
    runs=_list(RUN),
    **{"$schema": {"type": "string", "format": "uri"}},
)
SARIF = jsonschema_rs.validator_for(LOG, validate_formats=True)
GIVEN = ["--tests", "docs/examples/tests.yml", "--invariants", "docs/examples/invariants.txt"]
MESH = ["--stack", "stacks/shop.yml", "--policies", "docs/examples/candidate"]


@pytest.mark.parametrize(
    "words",
    [
        ["lint", *MESH],
        ["check", *MESH, "--base", "stacks/shop-policies", *GIVEN],
        ["verify", *MESH, "docs/examples/invariants.txt"],
        ["diff", "--stack", "stacks/shop.yml", "stacks/shop-policies", "docs/examples/candidate"],
        ["unused", *MESH, "docs/examples/access.log"],
        ["replay", *MESH, "docs/examples/access.log"],
    ],
    ids=lambda words: words[0],
)
def test_every_tool_s_sarif_is_sarif(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    printed = CliRunner().invoke(policy, [*words, "-o", "sarif"])
    assert printed.exit_code in (0, 1), printed.output
    log = json.loads(printed.stdout)
    assert [str(error) for error in SARIF.iter_errors(log)] == []
    for run in log["runs"]:
        for rule in run["tool"]["driver"].get("rules", []):
            page, _, anchor = rule["helpUri"].rpartition("/")[2].partition("#")
            headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
            assert anchor in [heading.lower().replace(" ", "-") for heading in headings], rule["helpUri"]
        rules = [rule["id"] for rule in run["tool"]["driver"].get("rules", [])]
        for result in run["results"]:
            assert rules[result["ruleIndex"]] == result["ruleId"]
            for location in result["locations"]:
                uri = location["physicalLocation"]["artifactLocation"]["uri"]
                assert not uri.startswith("/")
                assert "\\" not in uri


def test_the_rules_bite() -> None:
    good = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}, "results": []}]}
    assert SARIF.is_valid(good)
    for change in (
        {"version": "2.0.0"},
        {"extra": 1},
        {"runs": [{"results": []}]},
        {
            "runs": [
                {"tool": {"driver": {"name": "x"}}, "results": [{"level": "bad", "message": {"text": "x"}}]}
            ]
        },
    ):
        assert not SARIF.is_valid({**good, **change})
