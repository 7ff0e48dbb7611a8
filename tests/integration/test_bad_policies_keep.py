"""Whatever bad document is sent, it is named, and the last good revision stays in force."""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml import YAML

from tests.helpers.control_plane import DENY_ALL, plane
from tests.helpers.policies import document

CONFORMANCE = Path(__file__).parents[1] / "conformance"
CASES = [
    case
    for name in ("bad_policies.yml", "bad_routes.yml")
    for case in YAML(typ="safe", pure=True).load(CONFORMANCE / name)
]


async def test_no_bad_document_changes_what_is_in_force(tmp_path):
    async with plane(tmp_path) as mesh:
        assert (await mesh.put(DENY_ALL))[0] == 200
        _, good = await mesh.call("GET", "/v1/policies")
        assert len(CASES) > 350
        for case in CASES:
            text = document(case["kind"], case["spec"])
            status, answer = await mesh.put(DENY_ALL, text)
            assert status == 422, text
            places = [(error["line"], error["column"], error["key"]) for error in answer["errors"]]
            assert (case["line"], case["column"], case["key"]) in places
        _, held = await mesh.call("GET", "/v1/policies")
        assert held == good
        _, status = await mesh.call("GET", "/v1/status")
        assert status["revision"] == good["revision"]
