"""`meshpy policy diff`: which requests two sets of policies treat otherwise, before one goes live."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from meshpy.analysis.diff import Change, Diff, Kind, diff
from meshpy.analysis.explorations import MOST_CLASSES
from meshpy.cli.formats import Finding, Level, Report, ask_report_format, print_report
from meshpy.cli.offline import Offline
from meshpy.cli.progress import counting
from meshpy.errors import Place
from meshpy.policy import PolicySet

__all__ = ["DIFF_RULES", "diff_command", "findings_of_diff", "paths_of", "print_diff"]

DIFF_RULES = {
    "newly-allowed": "Requests that were denied become allowed.",
    "newly-denied": "Requests that were allowed become denied.",
    "routed-otherwise": "Requests go elsewhere, or are changed otherwise on their way.",
    "undetermined": "Some requests could not be cut into classes; they may be treated otherwise.",
}
_COLOURS = {Kind.ALLOWED: "green", Kind.DENIED: "red", Kind.ROUTED: "yellow"}


@click.command("diff")
@click.option("--stack", required=True, type=click.Path(path_type=Path), help="The stack file.")
@click.option(
    "--old-stack", type=click.Path(path_type=Path), help="The stack file of OLD, when it is another."
)
@click.option("-n", "--namespace", default="default", show_default=True, help="The stack's name.")
@click.option("--trust-domain", default="cluster.local", show_default=True, help="Of every identity.")
@click.option(
    "--classes",
    type=click.IntRange(1, 10_000_000),
    default=MOST_CLASSES,
    show_default=True,
    help="Judge at most so many classes; what is left is told.",
)
@ask_report_format
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
def diff_command(
    stack: Path,
    old_stack: Path | None,
    namespace: str,
    trust_domain: str,
    classes: int,
    output: str,
    old: Path,
    new: Path,
) -> None:
    """Say which requests the policies NEW treat otherwise than OLD. Exit 1 when there are any.

    OLD and NEW are policy files or folders; an empty folder, or /dev/null, is no policy. The answer is exact:
    every class of requests is judged, each difference comes with a request that shows it.

    \b
    Example:
      meshpy policy diff --stack shop.yml policies/ policies-new/
    """
    before = Offline.read(old_stack or stack, paths_of(old), namespace, trust_domain)
    after = Offline.read(stack, paths_of(new), namespace, trust_domain)
    found = diff(before.snapshots, after.snapshots, most=classes, progress=counting())
    findings = findings_of_diff(found, before.documents, after.documents, str(new))
    report = Report("policy diff", findings, rules=DIFF_RULES, data=found.to_json())
    print_report(report, output, lambda: print_diff(found))
    sys.exit(0 if found.is_empty else 1)


def paths_of(path: Path) -> Sequence[Path]:
    """A folder without files is allowed here: it stands for a mesh without policies."""
    if path.is_dir() and not any(found.suffix in (".yaml", ".yml") for found in path.rglob("*")):
        return ()
    return (path,)


def findings_of_diff(found: Diff, old: PolicySet, new: PolicySet, file: str) -> tuple[Finding, ...]:
    """The changes at the place of the policy that decides now, else at the one that decided before."""
    places = {**_places(old), **_places(new)}
    findings = [_finding(change, places, file) for change in found.changes]
    for item in found.undetermined:
        what = f"{item.source} → {item.destination}:{item.port}: {item}"
        findings.append(Finding("undetermined", Level.WARNING, Place(file), what))
    return tuple(findings)


def _places(policies: PolicySet) -> Mapping[str, Place]:
    return {
        f"{document.kind} {document.namespace}/{document.name}".replace(" /", " "): document.place
        for document in policies.documents
    }


def _finding(change: Change, places: Mapping[str, Place], file: str) -> Finding:
    words = f"{change.after} {change.before}"
    place = next((place for title, place in places.items() if title in words), Place(file))
    what = (
        f"{', '.join(change.sources)} → {change.destination}:{change.port}: {change.kind.value}"
        f" ({change.before} → {change.after}), for instance {change.witness}"
    )
    level = Level.INFO if change.kind is Kind.ROUTED else Level.WARNING
    return Finding(change.kind.value.replace(" ", "-"), level, place, what)


def print_diff(found: Diff, *, err: bool = False) -> None:
    """Changes for people, the widest opening first.

    Args:
        err: on standard error, for commands whose own answer is another.
    """
    for change in found.changes:
        click.secho(change.kind.value, fg=_COLOURS[change.kind], bold=True, nl=False, err=err)
        lines = [f": {', '.join(change.sources)} → {change.destination}:{change.port}"]
        lines += [f"  from addresses {change.nets}"] if change.nets else []
        lines += [
            "  " + ", ".join(f"{name} {text}" for name, text in words.items())
            for words in change.requests
            if words
        ]
        lines += [f"  before: {change.before}", f"  after:  {change.after}"]
        click.echo("\n".join([*lines, f"  for instance: {change.witness}", ""]), err=err)
    for item in found.undetermined:
        click.secho("may differ", fg="yellow", bold=True, nl=False, err=err)
        click.echo(f": {item.source} → {item.destination}:{item.port}: {item}", err=err)
    told = {kind: sum(change.kind is kind for change in found.changes) for kind in Kind}
    counts = ", ".join(f"{count} {kind.value}" for kind, count in told.items() if count)
    if found.undetermined:
        counts += f"{', ' if counts else ''}{len(found.undetermined)} that may differ"
    compared = f"{found.classes} classes of requests on {found.flows} flows compared"
    click.echo(f"{counts or 'no request is treated otherwise'} ({compared})", err=err)
