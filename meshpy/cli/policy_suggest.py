"""`meshpy policy suggest`: least-privilege policies from what was seen, and how far each has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from meshpy.analysis.suggest import Observed, Suggestion, Threshold, suggest
from meshpy.analysis.used import calls_seen
from meshpy.cli.live import live_mesh
from meshpy.cli.observed import LIVE, LiveFlows, recorded
from meshpy.cli.offline import Offline, ask_any_mesh
from meshpy.cli.output import ask_format, duration_s, print_json
from meshpy.client import Context, Operator
from meshpy.engine.explain import at_sidecar
from meshpy.engine.prepared import Prepared
from meshpy.errors import MeshpyError
from meshpy.policy import PolicySet
from meshpy.policy.kinds import AuthorizationPolicyDoc

__all__ = ["suggest_command"]

_SHOWN = 3


@click.command("suggest")
@ask_any_mesh
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, allow_dash=True),
    help="A recording; `live` (as --live) is what the control plane saw.",
)
@click.option(
    "--observed",
    type=duration_s,
    metavar="TIME",
    default="24h",
    show_default=True,
    help="Wanted time of observation.",
)
@click.option("--requests", type=int, default=100, show_default=True, help="Wanted requests for a callee.")
@click.option(
    "--many", type=int, default=10, show_default=True, help="So many values at one place become {*}."
)
@click.option("--learning", is_flag=True, help="Print what is still learning, too.")
@click.option("--enforce", is_flag=True, help="Without the dry-run annotation.")
@ask_format
def suggest_command(
    stack: Path | None,
    live: bool,
    policies: Sequence[Path],
    namespace: str,
    trust_domain: str,
    source: Path | None,
    observed: float,
    requests: int,
    many: int,
    learning: bool,
    enforce: bool,
    output: str,
) -> None:
    """Write least-privilege AuthorizationPolicies from traffic, staged, with their evidence.

    A callee goes from learning over stabilizing to stable; what is not stable is told on standard error. Of a
    live mesh it also tells which are staged, whom they would refuse, and which are enforced.

    \b
    Examples:
      docker service logs shop_api-sidecar | meshpy policy suggest --stack shop.yml --from - > staged.yaml
      meshpy policy suggest --from live > staged.yaml
    """
    progress: Mapping[str, str] = {}
    threshold = Threshold(observed, requests, many)
    if live or str(source) == LIVE:
        operator = Operator(Context.load())
        flows = LiveFlows.ask(operator)
        found = suggest(flows.observed, threshold)
        progress = _progress(found, flows, live_mesh(operator, namespace))
    elif stack is None or source is None:
        raise MeshpyError("where is the traffic? write --from live, or --stack FILE with --from RECORDING")
    else:
        mesh = Offline.read(stack, policies, namespace, trust_domain)
        found = suggest(Observed.of(recorded(source, mesh)), threshold)
    if output == "json":
        told = [{**item.to_json(), "progress": progress.get(_title(item))} for item in found]
        print_json({"suggestions": told})
        return
    shown = [item for item in found if learning or item.state != "learning"]
    for item in found:
        click.echo(_state(item, progress.get(_title(item), ""), printed=item in shown), err=True)
    click.echo("---\n".join(item.document(staged=not enforce) for item in shown), nl=False)


def _title(item: Suggestion) -> str:
    return f"{item.destination.namespace}/{item.name}"


def _state(item: Suggestion, progress: str, *, printed: bool) -> str:
    words = f"{item.destination}: {item.state}, confidence {item.confidence:.0%}"
    words += f"; {item.lost} requests were too many to keep" if item.lost else ""
    words += f"; {progress}" if progress else ""
    return words if printed else f"{words}; not printed before it is known better (--learning prints it)"


def _progress(found: Sequence[Suggestion], flows: LiveFlows, mesh: Offline) -> dict[str, str]:
    """How far the policies that were suggested before have come, by title."""
    told: dict[str, str] = {}
    for item in found:
        names = (item.name, f"{item.name}-staged")
        held = [
            each
            for each in mesh.documents.authorization_policies
            if each.meta.namespace == item.destination.namespace and each.meta.name in names
        ]
        if any(not each.dry_run for each in held):
            told[_title(item)] = "enforced"
        elif held:
            told[_title(item)] = _staged(held[0], item, flows, mesh)
    return told


def _staged(policy: AuthorizationPolicyDoc, item: Suggestion, flows: LiveFlows, mesh: Offline) -> str:
    """Whom a staged policy would refuse, of all that was seen."""
    alone = PolicySet(authorization_policies=(replace(policy, dry_run=False),))
    side = Prepared(mesh.compiled(alone), with_steps=False)
    refused: dict[str, int] = {}
    seen = [each for each in flows.seen if each[0].destination == item.destination]
    for (sighting, _), call in zip(seen, calls_seen(seen, mesh.trust_domain), strict=True):
        verdict = at_sidecar(side, call.destination, call.port, call.peer, call.request).verdict
        if verdict.stage == "allow" and not verdict.allowed:
            what = f"{sighting.source or 'outside'} {sighting.method} {sighting.path}".strip()
            refused[what] = refused.get(what, 0) + sighting.count
    if not refused:
        return "staged: nothing that was seen would be refused, enforce it (--enforce)"
    shown = ", ".join(f"{what} ({count} requests)" for what, count in list(refused.items())[:_SHOWN])
    more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    return f"staged: would refuse {shown}{more}"
