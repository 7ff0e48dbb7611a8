"""`meshpy events`: what was unusual in the traffic of the mesh."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import click

from meshpy.cli.output import ask_format_or, print_record
from meshpy.client import Context, Operator

__all__ = ["events"]

KINDS = (
    *("new_edge", "new_identity", "new_path_class", "denied_burst", "error_shift"),
    *("latency_shift", "mesh_slow", "rate_shift", "silent_service"),
)
_EVERY_S = 2.0


@click.command()
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind.")
@click.option("--open", "only_open", is_flag=True, help="Only what is still unusual.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new ones, until Ctrl-C.")
@ask_format_or(help="How to print; json: one object a line.")
def events(output: str, kind: str | None, only_open: bool, follow: bool) -> None:
    """Show what was unusual: new callers and paths, bursts of denials, more errors, more latency, silence.

    \b
    Examples:
      meshpy events --open
      meshpy events --kind new_edge -f -o json
    """
    operator, after = Operator(Context.load()), 0
    query: dict[str, Any] = {"kind": kind or "", "open": "true" if only_open else ""}
    baseline: Mapping[str, Any] = {}
    while True:
        given = {name: value for name, value in {**query, "after": after}.items() if value}
        answer = operator.call("GET", f"/v1/events?{urlencode(given)}")
        for event in answer["events"]:
            after = max(after, event["id"])
            if output == "json":
                print_record(event)
            else:
                click.echo(_line(event))
        if output == "table" and not baseline:
            baseline = answer["baseline"]
            click.echo(_known(baseline), err=True)
        if not follow:
            return
        time.sleep(_EVERY_S)


def _line(event: Mapping[str, Any]) -> str:
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
    lasts = "" if event["until"] else "  (goes on)"
    return f"{clock}  {event['kind']:15}  {event['text']}{lasts}"


def _known(baseline: Mapping[str, Any]) -> str:
    known = f"known: {baseline['edges']} edges, {baseline['path_classes']} classes of paths"
    if not baseline["on"]:
        return "nothing is watched: the control plane was started with --anomaly-learning 0"
    until = baseline["learning_until"]
    if until is None:
        return known
    return (
        f"{known}; learning until {time.strftime('%H:%M:%S', time.localtime(until))}, all is usual till then"
    )
