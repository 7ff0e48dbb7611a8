"""`meshpy policy test`: tables of requests and their expected verdicts, and which rules they reach."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from meshpy.analysis.coverage import Coverage, coverage
from meshpy.cli.formats import Finding, Level, Report, as_junit, ask_report_format, print_report
from meshpy.cli.offline import Offline, ask_mesh
from meshpy.cli.output import print_table
from meshpy.cli.policy_table import Outcome, read_tests, run_test

__all__ = ["TEST_RULES", "covered_by", "findings_of_coverage", "findings_of_tests", "test_command"]

TEST_RULES = {
    "test-failed": "A line of a table of tests does not hold.",
    "not-covered": "A rule or route that no test reaches.",
}


@click.command("test")
@ask_mesh
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write a JUnit report too.")
@click.option("--coverage", "show", is_flag=True, help="Tell which rules and routes the tests reach.")
@click.option("--min-coverage", type=click.FloatRange(0, 100), help="Exit 1 when fewer percent are reached.")
@ask_report_format
@click.argument("tests", nargs=-1, required=True, type=click.Path(path_type=Path))
def test_command(
    stack: Path,
    policies: Sequence[Path],
    namespace: str,
    trust_domain: str,
    junit: Path | None,
    show: bool,
    min_coverage: float | None,
    output: str,
    tests: Sequence[Path],
) -> None:
    """Run tables of requests and their expected verdicts. Exit 1 when one differs.

    \b
    Example:
      meshpy policy test --stack shop.yml --policies policies/ --min-coverage 80 tests/*.yaml
    """
    table = read_tests(tests)
    mesh = Offline.read(stack, policies, namespace, trust_domain)
    outcomes = [run_test(mesh, case) for case in table]
    reached = covered_by(mesh, outcomes)
    findings = findings_of_tests(outcomes)
    if min_coverage is not None:
        findings += findings_of_coverage(reached, min_coverage)
    passed = tuple((o.case.place.file, o.case.title) for o in outcomes if o.passed)
    data = _summary(outcomes, mesh, reached)
    report = Report("policy test", tuple(findings), passed, TEST_RULES, data)
    if junit is not None:
        junit.write_text(as_junit(report), encoding="utf-8")
    print_report(report, output, lambda: _print(outcomes, findings, mesh, reached if show else None))
    sys.exit(1 if findings else 0)


def _print(
    outcomes: Sequence[Outcome], findings: Sequence[Finding], mesh: Offline, reached: Coverage | None
) -> None:
    for problem in mesh.warnings:
        click.echo(f"warning: {problem}", err=True)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        click.echo(f"{outcome.case.place}: {outcome.case.title}", err=True)
        for line in outcome.failures:
            click.echo(f"  {line}", err=True)
    click.echo(f"{len(outcomes)} tests, {len(failed)} failed")
    if reached is not None:
        rows = [(rule.subject, str(rule.place), str(rule.tests)) for rule in reached.rules]
        print_table(("RULE", "PLACE", "TESTS"), rows)
        click.echo(f"{reached.percent:.0f} % of the rules reached")
    for finding in findings:
        if finding.code == "not-covered":
            click.echo(f"{finding.place}: {finding.subject}: {finding.message}", err=True)


def _summary(outcomes: Sequence[Outcome], mesh: Offline, reached: Coverage) -> dict[str, Any]:
    return {
        "tests": len(outcomes),
        "failed": sum(not outcome.passed for outcome in outcomes),
        "results": [outcome.to_json() for outcome in outcomes],
        "warnings": [item.to_json() for item in mesh.warnings],
        "coverage": {
            "percent": round(reached.percent, 2),
            "rules": [
                {"rule": r.subject, "file": r.place.file, "line": r.place.line, "tests": r.tests}
                for r in reached.rules
            ],
        },
    }


def findings_of_tests(outcomes: Sequence[Outcome]) -> list[Finding]:
    """The lines that do not hold."""
    return [
        Finding(
            "test-failed",
            Level.ERROR,
            outcome.case.place,
            "; ".join(outcome.failures),
            "",
            outcome.case.title,
        )
        for outcome in outcomes
        if not outcome.passed
    ]


def covered_by(mesh: Offline, outcomes: Sequence[Outcome]) -> Coverage:
    """What the answers of a table reach."""
    return coverage(mesh.documents, [o.explanation for o in outcomes if o.explanation is not None])


def findings_of_coverage(found: Coverage, least: float) -> list[Finding]:
    """Every rule that no test reaches, when they are too many."""
    if found.percent >= least:
        return []
    what = f"no test reaches it; {found.percent:.0f} % of the rules are reached, {least:g} % are wanted"
    return [
        Finding("not-covered", Level.WARNING, rule.place, what, "write a test", rule.subject)
        for rule in found.missed
    ]
