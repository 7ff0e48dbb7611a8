"""`meshpy policy lint`: what compiles and is hardly meant, each finding with a code of docs/lint.md."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from meshpy.analysis.lint import Subject, lint
from meshpy.analysis.remarks import CODES, Remark
from meshpy.analysis.suppress import ANNOTATION, suppressed
from meshpy.cli.formats import Finding, Level, Report, ask_report_format, print_findings, print_report
from meshpy.cli.offline import Offline, ask_mesh, read_policies
from meshpy.cli.output import print_table
from meshpy.compile import Findings
from meshpy.errors import Place

__all__ = ["LINT_RULES", "findings_of_lint", "lint_command"]

LINT_RULES = {code: found.meaning for code, found in CODES.items()}
_LEVELS = {"info": Level.INFO, "warning": Level.WARNING, "error": Level.ERROR}
_NEVER = "never"


def _list_codes(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        print_table(("CODE", "LEVEL", "MEANING"), [(c, f.level, f.meaning) for c, f in CODES.items()])
        ctx.exit()


@click.command("lint")
@ask_mesh
@click.option(
    "--failure-threshold",
    type=click.Choice([*_LEVELS, _NEVER]),
    default="warning",
    show_default=True,
    help="Exit 1 when something as grave as this is found.",
)
@click.option("-S", "--suppress", multiple=True, help="CODE, or CODE=SUBJECT with wildcards; repeatable.")
@click.option(
    "-L",
    "--list-codes",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_codes,
    help="List the codes and exit.",
)
@ask_report_format
def lint_command(
    stack: Path,
    policies: Sequence[Path],
    namespace: str,
    trust_domain: str,
    failure_threshold: str,
    suppress: Sequence[str],
    output: str,
) -> None:
    """Find shadowed, contradicting, redundant, over-broad and mistaken rules.

    What is said of rules is exact: every class of requests is judged. A comment
    `# meshpy: ignore MP104 reason` lets a finding stand.

    \b
    Example:
      meshpy policy lint --stack shop.yml --policies policies/
    """
    mesh = Offline.read(stack, policies, namespace, trust_domain, lenient=True)
    findings = findings_of_lint(mesh, policies, suppress)
    report = Report("policy lint", findings, rules=LINT_RULES)
    print_report(report, output, lambda: _print(findings))
    failing = [f for f in findings if failure_threshold != _NEVER and f.level >= _LEVELS[failure_threshold]]
    sys.exit(1 if failing else 0)


def _print(findings: Sequence[Finding]) -> None:
    print_findings(findings)
    counts = [(level, sum(finding.level is level for finding in findings)) for level in reversed(Level)]
    told = ", ".join(f"{count} {level.word}{'s' * (count != 1)}" for level, count in counts if count)
    click.echo(told or "nothing found")


def findings_of_lint(
    mesh: Offline, policies: Sequence[Path], suppress: Sequence[str] = ()
) -> tuple[Finding, ...]:
    """All findings that nobody suppressed, the code's level or the compiler's."""
    subject = Subject(mesh.inventory, mesh.documents, mesh.snapshots, Findings(mesh.errors, mesh.warnings))
    remarks = lint(subject, datetime.now(UTC).date().isoformat())
    texts = dict(read_policies(policies))
    kept = suppressed(remarks, texts, mesh.documents.documents, _annotations(mesh))
    return tuple(
        Finding(r.code, _LEVELS[r.grade], _placed(r, mesh), r.message, r.instead, r.subject)
        for r in kept
        if not any(_is_suppressed(r, rule) for rule in suppress)
    )


def _placed(remark: Remark, mesh: Offline) -> Place:
    """What has no place of its own is told at the first document, so that every format can show it."""
    if remark.place.file or not mesh.documents.documents:
        return remark.place
    return Place(mesh.documents.documents[0].file)


def _is_suppressed(remark: Remark, rule: str) -> bool:
    code, equals, subject = rule.partition("=")
    if code not in CODES:
        raise click.UsageError(f"{code!r} is no code; see --list-codes")
    return remark.code == code and (not equals or fnmatch.fnmatchcase(remark.subject, subject))


def _annotations(mesh: Offline) -> dict[Place, str]:
    documents = mesh.documents
    metas = [
        *(item.meta for item in documents.authorization_policies),
        *(item.meta for item in documents.network_policies),
        *(item.meta for item in documents.virtual_services),
        *(item.meta for item in documents.destination_rules),
    ]
    return {meta.place: meta.annotations[ANNOTATION] for meta in metas if ANNOTATION in meta.annotations}
