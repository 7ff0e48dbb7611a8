"""Findings in each format, as the readers of that format need them."""

import json
from xml.etree import ElementTree as ET

from click.testing import CliRunner

from meshpy.cli.formats import FORMATS, Finding, Level, Report, as_github, as_junit, as_sarif, print_report
from meshpy.errors import Place

FOUND = (
    Finding(
        "MP102",
        Level.WARNING,
        Place("p/a.yaml", 7, 3, "spec.rules[1]"),
        "a, b: 50%\nmore",
        "write c",
        "X s/n",
    ),
    Finding("MP115", Level.INFO, Place("p/b.yaml"), "info <only>"),
    Finding("MP101", Level.ERROR, Place("p/a.yaml", 1), "bad"),
)
REPORT = Report("policy lint", FOUND, (("t.yml", "a test"),), {"MP102": "never reached"}, {"more": 1})


def test_sarif_names_rule_level_place_and_a_stable_fingerprint():
    run = as_sarif(REPORT)["runs"][0]
    assert as_sarif(REPORT)["version"] == "2.1.0"
    first = run["results"][0]
    assert first["ruleId"] == run["tool"]["driver"]["rules"][first["ruleIndex"]]["id"] == "MP102"
    assert [result["level"] for result in run["results"]] == ["warning", "note", "error"]
    location = first["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "p/a.yaml"
    assert location["region"] == {"startLine": 7, "startColumn": 3}
    moved = Finding(
        **{**{f: getattr(FOUND[0], f) for f in FOUND[0].__slots__}, "place": Place("p/a.yaml", 9)}
    )
    again = as_sarif(Report("policy lint", (moved,)))["runs"][0]["results"][0]
    assert again["partialFingerprints"] == first["partialFingerprints"]
    assert "region" not in run["results"][1]["locations"][0]["physicalLocation"]


def test_junit_counts_failures_and_lets_info_pass():
    root = ET.fromstring(as_junit(REPORT))
    suites = {suite.get("name"): suite for suite in root}
    assert suites["p/a.yaml"].attrib == {"name": "p/a.yaml", "tests": "2", "failures": "2", "errors": "0"}
    assert suites["p/b.yaml"].get("failures") == "0"
    assert suites["t.yml"].get("tests") == "1"
    assert suites["p/a.yaml"][0].get("line") == "7"
    assert suites["p/a.yaml"][0][0].get("message").startswith("a, b: 50%")


def test_github_annotations_escape_what_would_end_them():
    lines = as_github(REPORT)
    assert lines[0] == ("::warning file=p/a.yaml,line=7,col=3,title=MP102 X s/n::a, b: 50%25%0Amore; write c")
    assert lines[1].startswith("::notice file=p/b.yaml,title=MP115::")
    assert lines[2].startswith("::error ")


def test_every_format_prints_something_that_its_reader_reads():
    import click

    for name in ("table", "json", *FORMATS):
        printed = CliRunner().invoke(
            click.Command(
                "c", callback=lambda name=name: print_report(REPORT, name, lambda: click.echo("text"))
            )
        )
        assert printed.exit_code == 0
        if name in ("json", "sarif"):
            assert json.loads(printed.output)
        assert printed.output.strip()
