"""`meshpy policy unused`: rules that no request needed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from meshpy.analysis.lint_rules import written_rules
from meshpy.analysis.used import calls_of, calls_seen, last_used, outside_rules
from meshpy.cli.formats import Finding, Level, Report, ask_report_format, print_report
from meshpy.cli.live import live_mesh
from meshpy.cli.observed import LIVE, LiveFlows, recorded
from meshpy.cli.offline import Offline, ask_any_mesh
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from meshpy.model.names import ServiceName

__all__ = ["unused_command"]

_DAY_S = 86400.0
UNUSED_RULES = {
    "unused": "A rule that no request needed.",
    "unseen": "A rule of which nothing that was seen can tell.",
}


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Args:
    used: (policy, rule) → when it was used last.
    span_s: how long was looked.
    silent: titles of policies of which no sidecar reports.
    """

    mesh: Offline
    used: Mapping[tuple[str, str], float]
    span_s: float
    end_s: float
    where: str
    silent: frozenset[str] = frozenset()


@click.command("unused")
@ask_any_mesh
@click.option("--days", type=float, default=30.0, show_default=True, help="Without a request for so long.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, allow_dash=True),
    help="A recording, as RECORDING; `live` (as --live) is what the control plane saw.",
)
@ask_report_format
@click.argument("recording", required=False, type=click.Path(path_type=Path, allow_dash=True))
def unused_command(
    stack: Path | None,
    live: bool,
    policies: Sequence[Path],
    namespace: str,
    trust_domain: str,
    days: float,
    source: Path | None,
    output: str,
    recording: Path | None,
) -> None:
    """List the rules that no request needed for N days. Exit 1 when there are any.

    A rule is used when it decides, and also when it lets a request pass on to where it is decided.

    \b
    Examples:
      meshpy policy unused --stack shop.yml --policies policies/ --days 14 access.log
      meshpy policy unused --from live --days 30
    """
    given = source or recording
    if live or str(given) == LIVE:
        found = _live(namespace)
    elif stack is None or given is None:
        raise MeshpyError("where is the traffic? write --from live, or --stack FILE and a RECORDING")
    else:
        mesh = Offline.read(stack, policies, namespace, trust_domain)
        read = recorded(given, mesh)
        used = last_used(calls_of(read), mesh.snapshots)
        found = _Evidence(mesh, used, read.span_s, read.entries[-1].time_s, "in the whole recording")
    if found.span_s < days * _DAY_S:
        click.echo(
            f"warning: {found.span_s / _DAY_S:.1f} days were seen, less than {days:g}:"
            " a rule that is not used in them may be used more rarely",
            err=True,
        )
    findings = _findings(found, days)
    report = Report("policy unused", tuple(findings), rules=UNUSED_RULES)
    print_report(report, output, lambda: _print(findings))
    sys.exit(1 if any(each.level is not Level.INFO for each in findings) else 0)


def _live(namespace: str) -> _Evidence:
    """What the sidecars said of their rules, and what the flows that they told need."""
    operator = Operator(Context.load())
    mesh, flows = live_mesh(operator, namespace), LiveFlows.ask(operator)
    used = last_used(calls_seen(flows.seen, mesh.trust_domain), mesh.snapshots)
    for name, last_s in flows.rules.items():
        used[name] = max(last_s, used.get(name, 0.0))
    watched = max(flows.observed.watched_s.values())
    span_s = min(watched, flows.now_s - flows.since_s)
    silent = _silent(mesh, set(flows.observed.watched_s))
    return _Evidence(mesh, used, span_s, flows.now_s, "since the control plane watches", silent)


def _silent(mesh: Offline, reporting: set[ServiceName]) -> frozenset[str]:
    """Policies that stand at services of which nobody reports: nothing can be said of them."""
    held: dict[str, set[ServiceName]] = {}
    for name, snapshot in mesh.snapshots.items():
        auth = snapshot.authorization
        tiers = [policy.name for tier in (*auth.ingress, *auth.egress) for policy in tier.policies]
        for title in (*tiers, *(policy.name for policy in auth.policies)):
            held.setdefault(title, set()).add(name)
    return frozenset(title for title, services in held.items() if not services & reporting)


def _findings(found: _Evidence, days: float) -> list[Finding]:
    findings = []
    outside = outside_rules(found.mesh.documents)
    for name, rule in written_rules(found.mesh.documents).items():
        last = found.used.get(name)
        if last is not None and found.end_s - last <= days * _DAY_S:
            continue
        if last is None and name in outside:
            what = "it is for hosts outside the mesh, whose calls are not seen here"
            findings.append(Finding("unseen", Level.INFO, rule.place, what, "", rule.subject))
            continue
        if last is None and name[0] in found.silent:
            what = "no sidecar that it is for has told anything"
            findings.append(Finding("unseen", Level.INFO, rule.place, what, "", rule.subject))
            continue
        when = found.where if last is None else f"since {_day(last)}"
        what = f"no request needed it {when}"
        findings.append(Finding("unused", Level.WARNING, rule.place, what, "remove it", rule.subject))
    return findings


def _print(findings: Sequence[Finding]) -> None:
    for finding in findings:
        click.echo(f"{finding.place}: {finding.subject}: {finding.message}")
    click.echo(f"{sum(each.level is not Level.INFO for each in findings)} rules unused")


def _day(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).date().isoformat()
