"""`meshpy policy replay`, `suggest` and `unused`: what recorded traffic says of policies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from meshpy.analysis.lint_rules import written_rules
from meshpy.analysis.recording import Recording, read_recording
from meshpy.analysis.replay import Replay, last_used, replay
from meshpy.analysis.suggest import Suggestion, Threshold, suggest
from meshpy.cli.formats import Finding, Level, Report, ask_report_format, print_report
from meshpy.cli.offline import Offline, ask_mesh
from meshpy.cli.output import ask_format, duration_s, print_json, print_table
from meshpy.errors import MeshpyError, Place

__all__ = ["replay_command", "suggest_command", "unused_command"]

REPLAY_RULES = {
    "newly-allowed": "Recorded requests that were refused would be allowed.",
    "newly-denied": "Recorded requests that were allowed would be refused.",
    "uncertain": "The verdict depends on what the access log does not hold.",
}


def _read(path: Path, mesh: Offline) -> Recording:
    """A recording that has something to say.

    Raises:
        MeshpyError: no line of it can be used.
    """
    text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8", errors="replace")
    recording = read_recording(text.splitlines(), mesh.snapshots)
    if not recording.entries:
        why = ", ".join(f"{count} × {reason}" for reason, count in recording.skipped.items()) or "it is empty"
        raise MeshpyError(f"{path}: no line is an inbound request of this mesh: {why}")
    return recording


@click.command("replay")
@ask_mesh
@ask_report_format
@click.argument("recording", type=click.Path(path_type=Path, allow_dash=True))
def replay_command(
    stack: Path, policies: Sequence[Path], namespace: str, trust_domain: str, output: str, recording: Path
) -> None:
    """Send recorded requests through a candidate: which verdicts would change? Exit 1 when any does.

    RECORDING is the access log of sidecars, as `docker service logs` prints it; `-` is standard input.

    \b
    Example:
      docker service logs shop_api-sidecar | meshpy policy replay --stack shop.yml --policies new/ -
    """
    mesh = Offline.read(stack, policies, namespace, trust_domain)
    read = _read(recording, mesh)
    found = replay(read, mesh.snapshots)
    rows = sorted(found.rows.values(), key=lambda row: (row.change, -row.count, row.source))
    findings = tuple(
        Finding(
            row.change.replace(" ", "-"),
            Level.INFO if row.change == "uncertain" else Level.WARNING,
            Place(str(recording)),
            f"{row.count} × {row.source} → {row.destination}:{row.port} {row.example}:"
            f" {row.change} by {row.by}",
        )
        for row in rows
    )
    data = {"judged": found.judged, "skipped": dict(read.skipped), "changes": [row.to_json() for row in rows]}
    report = Report("policy replay", findings, rules=REPLAY_RULES, data=data)
    print_report(report, output, lambda: _print_replay(found, read))
    sys.exit(1 if found.changed else 0)


def _print_replay(found: Replay, read: Recording) -> None:
    rows = sorted(found.rows.values(), key=lambda row: (row.change, -row.count, row.source))
    if rows:
        print_table(
            ("SOURCE", "DESTINATION", "CHANGE", "COUNT", "BY", "FOR INSTANCE"),
            [
                (r.source, f"{r.destination}:{r.port}", r.change, str(r.count), r.by, r.example or "-")
                for r in rows
            ],
        )
    skipped = ", ".join(f"{count} × {reason}" for reason, count in read.skipped.items())
    uncertain = sum(row.count for row in rows if row.change == "uncertain")
    click.echo(
        f"{found.judged} requests in {read.span_s / 3600:.1f} h judged, {found.changed} would change"
        + (f", {uncertain} uncertain" if uncertain else "")
        + (f"; left out: {skipped}" if skipped else "")
    )


@click.command("suggest")
@ask_mesh
@click.option(
    "--from",
    "recording",
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="A recording.",
)
@click.option(
    "--observed", type=duration_s, default="24h", show_default=True, help="Wanted time of observation."
)
@click.option("--requests", type=int, default=100, show_default=True, help="Wanted requests for a callee.")
@click.option(
    "--many", type=int, default=10, show_default=True, help="So many values at one place become {*}."
)
@click.option("--learning", is_flag=True, help="Print what is still learning, too.")
@click.option("--enforce", is_flag=True, help="Without the dry-run annotation.")
@ask_format
def suggest_command(
    stack: Path,
    policies: Sequence[Path],
    namespace: str,
    trust_domain: str,
    recording: Path,
    observed: float,
    requests: int,
    many: int,
    learning: bool,
    enforce: bool,
    output: str,
) -> None:
    """Write least-privilege AuthorizationPolicies from recorded traffic, staged, with their evidence.

    A callee goes from learning over stabilizing to stable; what is not stable is told on standard error.

    \b
    Example:
      docker service logs shop_api-sidecar | meshpy policy suggest --stack shop.yml --from - > staged.yaml
    """
    mesh = Offline.read(stack, policies, namespace, trust_domain)
    found = suggest(_read(recording, mesh), Threshold(observed, requests, many))
    if output == "json":
        print_json({"suggestions": [item.to_json() for item in found]})
        return
    shown = [item for item in found if learning or item.state != "learning"]
    for item in found:
        click.echo(_state(item, printed=item in shown), err=True)
    click.echo("---\n".join(item.document(staged=not enforce) for item in shown), nl=False)


def _state(item: Suggestion, *, printed: bool) -> str:
    words = f"{item.destination}: {item.state}, confidence {item.confidence:.0%}"
    return words if printed else f"{words}; not printed before it is known better (--learning prints it)"


@click.command("unused")
@ask_mesh
@click.option("--days", type=float, default=30.0, show_default=True, help="Without a request for so long.")
@ask_report_format
@click.argument("recording", type=click.Path(path_type=Path, allow_dash=True))
def unused_command(
    stack: Path,
    policies: Sequence[Path],
    namespace: str,
    trust_domain: str,
    days: float,
    output: str,
    recording: Path,
) -> None:
    """List the rules that decided no recorded request for N days. Exit 1 when there are any.

    \b
    Example:
      meshpy policy unused --stack shop.yml --policies policies/ --days 14 access.log
    """
    mesh = Offline.read(stack, policies, namespace, trust_domain)
    read = _read(recording, mesh)
    used = last_used(read, mesh.snapshots)
    end = read.entries[-1].time_s
    if read.span_s < days * 86400:
        click.echo(
            f"warning: the recording spans {read.span_s / 86400:.1f} days, less than {days:g}: a rule that is"
            " not used in it may be used more rarely",
            err=True,
        )
    findings = []
    for name, rule in written_rules(mesh.documents).items():
        last = used.get(name)
        if last is None or end - last > days * 86400:
            when = "in the whole recording" if last is None else f"since {_day(last)}"
            what = f"it decided no request {when}"
            findings.append(Finding("unused", Level.WARNING, rule.place, what, "remove it", rule.subject))
    report = Report("policy unused", tuple(findings), rules={"unused": "A rule that no request used."})
    print_report(report, output, lambda: _print_unused(findings))
    sys.exit(1 if findings else 0)


def _print_unused(findings: Sequence[Finding]) -> None:
    for finding in findings:
        click.echo(f"{finding.place}: {finding.subject}: {finding.message}")
    click.echo(f"{len(findings)} rules unused")


def _day(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).date().isoformat()
