"""`meshpy policy replay`: recorded traffic through a candidate."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from meshpy.analysis.recording import Recording
from meshpy.analysis.replay import Replay, replay
from meshpy.cli.formats import Finding, Level, Report, ask_report_format, print_report
from meshpy.cli.observed import recorded
from meshpy.cli.offline import Offline, ask_mesh
from meshpy.cli.output import print_table
from meshpy.errors import Place

__all__ = ["replay_command"]

REPLAY_RULES = {
    "newly-allowed": "Recorded requests that were refused would be allowed.",
    "newly-denied": "Recorded requests that were allowed would be refused.",
    "uncertain": "The verdict depends on what the access log does not hold.",
}


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
    read = recorded(recording, mesh)
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
