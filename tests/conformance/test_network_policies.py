"""Policies of Kubernetes, Calico, Cilium and Istio decide as their documentation says; a case is one fact."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.helpers.policies import document
from tests.helpers.verdicts import Tried

TABLES = ("network_policies.yml", "cilium_policies.yml", "istio_policies.yml")
CASES = [
    case
    for table in TABLES
    for case in YAML(typ="safe", pure=True).load(Path(__file__).with_name(table).read_text())
]
QUESTION = re.compile(r"(\S+) ([^\s:]+)(?::(\d+))?(?: ([A-Z]+) (/\S*))?(?: @(\S+))?")


def text_of(policy: dict[str, Any]) -> str:
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(policy["spec"], stream)
    labels = policy.get("labels")
    more = f", labels: {labels}" if labels else ""
    more += f", annotations: {json.dumps(policy['annotations'])}" if "annotations" in policy else ""
    scope = policy.get("namespace", "shop")
    return document(policy["kind"], stream.getvalue(), policy.get("name", "p"), scope, more)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["fact"])
def test_fact(case: dict[str, Any]) -> None:
    tried = Tried(*map(text_of, case["policies"]))
    wrong = []
    for question, expected in case["ask"].items():
        found = QUESTION.fullmatch(question)
        assert found is not None, question
        source, target, port, method, path, address = found.groups()
        verdict = tried.ask(
            source, target, int(port) if port else None, method or "GET", path or "/",
            address=address or "10.9.9.9",
        )  # fmt: skip
        if verdict.allowed is not (expected == "allow"):
            wrong.append((question, expected, verdict))
    assert not wrong
