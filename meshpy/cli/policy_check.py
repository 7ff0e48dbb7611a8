"""`meshpy policy check`: lint, tests, invariants and diff in one call, for CI and pre-commit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from meshpy.analysis.diff import diff
from meshpy.cli.formats import Finding, Level, Report, ask_report_format, print_findings, print_report
from meshpy.cli.offline import Offline, ask_mesh
from meshpy.cli.policy_diff import DIFF_RULES, findings_of_diff, paths_of
from meshpy.cli.policy_lint import LINT_RULES, findings_of_lint
from meshpy.cli.policy_table import read_tests, run_test
from meshpy.cli.policy_test import TEST_RULES, covered_by, findings_of_coverage, findings_of_tests
from meshpy.cli.policy_verify import VERIFY_RULES, findings_of_proofs, proofs_of

__all__ = ["check_command"]

_KINDS = tuple(code for code in DIFF_RULES if code != "undetermined")


@click.command("check")
@ask_mesh
@click.option("--tests", multiple=True, type=click.Path(path_type=Path), help="A table of tests; repeatable.")
@click.option("--invariants", multiple=True, type=click.Path(path_type=Path), help="A file; repeatable.")
@click.option("--base", type=click.Path(path_type=Path), help="The policies in force: changes are told.")
@click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(_KINDS),
    help="Changes against --base that fail the check; else they are told as notes.",
)
@click.option("-S", "--suppress", multiple=True, help="As of `policy lint`.")
@click.option("--min-coverage", type=click.FloatRange(0, 100), help="Percent of rules that tests must reach.")
@ask_report_format
def check_command(
    stack: Path,
    policies: Sequence[Path],
    namespace: str,
    trust_domain: str,
    tests: Sequence[Path],
    invariants: Sequence[Path],
    base: Path | None,
    fail_on: Sequence[str],
    suppress: Sequence[str],
    min_coverage: float | None,
    output: str,
) -> None:
    """Lint, test, verify and compare, in one call.

    Exit 0 fine, 1 findings of level warning or above, 2 bad input, 3 could not run.

    \b
    Example:
      meshpy policy check --stack shop.yml --policies policies/ --tests tests.yml -o github
    """
    mesh = Offline.read(stack, policies, namespace, trust_domain, lenient=True)
    findings = list(findings_of_lint(mesh, policies, suppress))
    outcomes = [run_test(mesh, case) for case in read_tests(tests)] if tests else []
    findings += findings_of_tests(outcomes)
    passed = [(o.case.place.file, o.case.title) for o in outcomes if o.passed]
    if min_coverage is not None:
        findings += findings_of_coverage(covered_by(mesh, outcomes), min_coverage)
    if invariants:
        proofs = proofs_of(mesh, invariants)
        findings += findings_of_proofs(proofs)
        passed += [(p.invariant.place.file, p.invariant.text) for p in proofs if p.holds]
    if base is not None:
        findings += _changes(mesh, stack, base, namespace, trust_domain, fail_on)
    rules = {**LINT_RULES, **TEST_RULES, **VERIFY_RULES, **DIFF_RULES}
    report = Report("policy check", tuple(findings), tuple(passed), rules)
    print_report(report, output, lambda: _print(findings, len(passed)))
    sys.exit(1 if any(finding.level >= Level.WARNING for finding in findings) else 0)


def _print(findings: Sequence[Finding], passed: int) -> None:
    print_findings(findings)
    failing = sum(finding.level >= Level.WARNING for finding in findings)
    click.echo(f"{passed} tests and invariants hold, {failing} findings, {len(findings) - failing} notes")


def _changes(
    mesh: Offline, stack: Path, base: Path, namespace: str, trust_domain: str, fail_on: Sequence[str]
) -> list[Finding]:
    before = Offline.read(stack, paths_of(base), namespace, trust_domain)
    found = findings_of_diff(
        diff(before.snapshots, mesh.snapshots), before.documents, mesh.documents, str(base)
    )
    failing = {*fail_on, "undetermined"} if fail_on else set()
    return [
        Finding(
            item.code,
            Level.WARNING if item.code in failing else Level.INFO,
            item.place,
            item.message,
            item.instead,
            item.subject,
        )
        for item in found
    ]
