"""The commands of `meshpy policy`: all of them are there, and check's exit codes are those of the docs."""

import gc
import json

import pytest
from click.testing import CliRunner

from meshpy.cli.main import run
from meshpy.cli.policy import policy

STACK = """\
services:
  web: {image: a, ports: ["80:80"], environment: {API: "http://api:8080"}}
  api: {image: b}
"""
GOOD = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: api}
spec:
  selector: {matchLabels: {app: api}}
  rules: [{from: [{source: {serviceAccounts: [web]}}], to: [{operation: {methods: [GET]}}]}]
"""
TESTS = "tests:\n  - {from: web, to: api, method: GET, expect: allow}\n"


@pytest.fixture
def files(tmp_path):
    for name, text in (
        ("s.yml", STACK),
        ("p/a.yaml", GOOD),
        ("t.yml", TESTS),
        ("i.txt", "only: web -> api\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def exit_of(*words):
    try:
        return run(["policy", *map(str, words)])
    except SystemExit as ended:
        return ended.code


def check(files, *more):
    return exit_of("check", "--stack", files / "s.yml", "--policies", files / "p", *more)


def test_every_command_of_the_group_is_found_and_helps():
    names = policy.list_commands(None)
    assert {"explain", "test", "lint", "verify", "diff", "check", "replay", "suggest", "schema"} <= set(names)
    assert set(policy.commands) <= set(names)
    for name in names:
        assert CliRunner().invoke(policy, [name, "--help"]).exit_code == 0, name


def test_the_collector_works_again_after_a_command(files):
    check(files)
    assert gc.isenabled()


def test_check_is_0_when_all_is_well(files, capsys):
    assert (
        check(files, "--tests", files / "t.yml", "--invariants", files / "i.txt", "--min-coverage", 100) == 0
    )
    assert "2 tests and invariants hold, 0 findings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "before", "after", "code"),
    [
        ("t.yml", "expect: allow", "expect: deny", "test-failed"),
        ("i.txt", "only: web", "never: web", "refuted"),
        ("p/a.yaml", "from: [{source: {serviceAccounts: [web]}}], ", "", "MP106"),
    ],
)
def test_check_is_1_with_findings_of_each_part(files, capsys, name, before, after, code):
    path = files / name
    path.write_text(path.read_text().replace(before, after))
    words = ("--tests", files / "t.yml", "--invariants", files / "i.txt", "-o", "json")
    assert check(files, *words) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert code in {finding["code"] for finding in found}


def test_check_is_2_for_bad_input_and_names_the_line(files, capsys):
    (files / "p/a.yaml").write_text(GOOD.replace("rules:", "rulez:"))
    assert check(files) == 2
    assert "a.yaml:6:3" in capsys.readouterr().err
    assert check(files / "nowhere") == 2


def test_changes_against_a_base_are_notes_unless_they_are_to_fail(files, capsys):
    (files / "old").mkdir()
    assert check(files, "--base", files / "old") == 0
    assert "newly-denied" in capsys.readouterr().out
    assert check(files, "--base", files / "old", "--fail-on", "newly-allowed") == 0
    assert check(files, "--base", files / "old", "--fail-on", "newly-denied") == 1


def test_the_pre_commit_hooks_call_commands_that_exist():
    from pathlib import Path

    from ruamel.yaml import YAML

    hooks = YAML(typ="safe").load((Path(__file__).parents[3] / ".pre-commit-hooks.yaml").read_text())
    for hook in hooks:
        assert hook["entry"].split()[:2] == ["meshpy", "policy"]
        assert hook["entry"].split()[2] in policy.list_commands(None)


def test_a_file_that_cannot_be_read_is_named_before_the_reason(capsys, tmp_path):
    gone = str(tmp_path / "gone.log")
    assert run(["policy", "suggest", "--stack", "stacks/shop.yml", "--from", gone]) == 2
    assert capsys.readouterr().err == f"error: {gone}: No such file or directory\n"
