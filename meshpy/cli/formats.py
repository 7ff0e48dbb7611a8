"""Findings as people and machines read them: text, JSON, YAML, SARIF 2.1.0, JUnit, GitHub annotations.

Every policy tool that finds something hands a `Report` to `print_report`; none prints a format itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from importlib.metadata import version
from pathlib import PurePath
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import click

from meshpy.cli.output import ask_format_or, print_json
from meshpy.errors import Place

__all__ = [
    "FORMATS",
    "Finding",
    "Level",
    "Report",
    "as_github",
    "as_junit",
    "as_sarif",
    "ask_report_format",
    "print_report",
]

FORMATS = ("sarif", "junit", "github")
"""Beside those of every command."""
_DOCS = "https://github.com/meshpy/meshpy/blob/main/docs"


class Level(IntEnum):
    """How grave; in the order of a threshold."""

    INFO = 0
    WARNING = 1
    ERROR = 2

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person should look at.

    Args:
        code: `MP104`, `newly-allowed`; the docs have a section of that name.
        subject: whom it is about, `AuthorizationPolicy shop/x rules[0]`.
    """

    code: str
    level: Level
    place: Place
    message: str
    instead: str = ""
    subject: str = ""

    @property
    def text(self) -> str:
        return f"{self.message}; {self.instead}" if self.instead else self.message

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "level": self.level.word,
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "key": self.place.key,
            "message": self.message,
            "instead": self.instead,
            "subject": self.subject or None,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What a command found.

    Args:
        passed: names of what was looked at and is well, as (group, name); for JUnit.
        rules: code → its one-line meaning; for SARIF.
        data: further keys of the JSON object.
    """

    command: str
    findings: tuple[Finding, ...] = ()
    passed: tuple[tuple[str, str], ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


ask_report_format = ask_format_or(*FORMATS)


def print_report(report: Report, output: str, as_text: Callable[[], None]) -> None:
    """Print on standard output; `as_text` is how this command speaks to people."""
    match output:
        case "json":
            findings = [finding.to_json() for finding in report.findings]
            print_json({"command": report.command, "findings": findings, **report.data})
        case "sarif":
            print_json(as_sarif(report))
        case "junit":
            click.echo(as_junit(report), nl=False)
        case "github":
            for line in as_github(report):
                click.echo(line)
        case _:
            as_text()


_PAGES = {
    **dict.fromkeys(("test-failed", "not-covered", "refuted", "unproved"), "policy-testing"),
    **dict.fromkeys(("uncertain", "unused", "unseen"), "recorded-traffic"),
}


def _page(code: str) -> str:
    """Where a code is explained, under a heading of its name."""
    return "lint" if code.startswith("MP") else _PAGES.get(code, "diff")


def as_sarif(report: Report) -> dict[str, Any]:
    """One run (OASIS SARIF 2.1.0); paths as the user named them, relative where they are."""
    codes = sorted({finding.code for finding in report.findings} | set(report.rules))
    driver = {
        "name": "meshpy",
        "informationUri": _DOCS,
        "semanticVersion": version("swarm-meshpy"),
        "rules": [
            {
                "id": code,
                "shortDescription": {"text": report.rules.get(code, code)},
                "helpUri": f"{_DOCS}/{_page(code)}.md#{code.lower()}",
            }
            for code in codes
        ],
    }
    results = [_sarif_result(finding, codes.index(finding.code)) for finding in report.findings]
    run = {"tool": {"driver": driver}, "automationDetails": {"id": report.command}, "results": results}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return {"$schema": schema, "version": "2.1.0", "runs": [run]}


_SARIF_LEVEL = {Level.INFO: "note", Level.WARNING: "warning", Level.ERROR: "error"}


def _sarif_result(finding: Finding, index: int) -> dict[str, Any]:
    place = finding.place
    location: dict[str, Any] = {"artifactLocation": {"uri": PurePath(place.file or "-").as_posix()}}
    if place.line:
        location["region"] = {"startLine": place.line}
        if place.column:
            location["region"]["startColumn"] = place.column
    # the line may move; what is said of whom does not
    print_ = hashlib.sha256(f"{finding.code}|{finding.subject}|{finding.message}".encode()).hexdigest()[:16]
    return {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _SARIF_LEVEL[finding.level],
        "message": {"text": finding.text},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"primaryLocationLineHash": f"{print_}:1"},
    }


def as_junit(report: Report) -> str:
    """One suite for each group of checks; a finding of level info is told and fails nothing."""
    suites: dict[str, list[str]] = {}
    for group, name in report.passed:
        suites.setdefault(group, []).append(f"    {_case(group, name)}/>")
    for finding in report.findings:
        group = finding.place.file or report.command
        suites.setdefault(group, []).append(f"    {_junit_finding(group, finding)}")
    title = quoteattr(f"meshpy {report.command}")
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites name={title}>"]
    for group, cases in suites.items():
        failed = sum("<failure" in case for case in cases)
        counts = f'tests="{len(cases)}" failures="{failed}" errors="0"'
        lines += [f"  <testsuite name={quoteattr(group)} {counts}>", *cases, "  </testsuite>"]
    return "\n".join([*lines, "</testsuites>", ""])


def _case(group: str, name: str) -> str:
    return f"<testcase classname={quoteattr(group)} name={quoteattr(name)}"


def _junit_finding(group: str, finding: Finding) -> str:
    place = finding.place
    head = _case(group, f"{finding.code} {finding.subject or place}".strip())
    if place.line:
        head += f" file={quoteattr(place.file)} line={quoteattr(str(place.line))}"
    text = escape(f"{place}: {finding.text}")
    if finding.level is Level.INFO:
        return f"{head}><system-out>{text}</system-out></testcase>"
    attributes = f"type={quoteattr(finding.code)} message={quoteattr(finding.message)}"
    return f"{head}><failure {attributes}>{text}</failure></testcase>"


_GITHUB_LEVEL = {Level.INFO: "notice", Level.WARNING: "warning", Level.ERROR: "error"}


def as_github(report: Report) -> list[str]:
    """Workflow commands, which GitHub shows at the line of the change."""
    lines = []
    for finding in report.findings:
        place = finding.place
        where = [("file", place.file)] + [("line", str(place.line))] * bool(place.line)
        where += [("col", str(place.column))] * bool(place.column)
        where.append(("title", f"{finding.code} {finding.subject}".strip()))
        words = ",".join(f"{key}={_property(value)}" for key, value in where if value)
        lines.append(f"::{_GITHUB_LEVEL[finding.level]} {words}::{_escaped(finding.text)}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def print_findings(findings: Sequence[Finding]) -> None:
    """One line each: `file:line:column: warning MP104: …`."""
    colours = {Level.INFO: "blue", Level.WARNING: "yellow", Level.ERROR: "red"}
    for finding in findings:
        click.echo(f"{finding.place}: ", nl=False)
        click.secho(f"{finding.level.word} {finding.code}", fg=colours[finding.level], nl=False)
        subject = f" ({finding.subject})" if finding.subject else ""
        click.echo(f": {finding.text}{subject}")
