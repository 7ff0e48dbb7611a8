"""`meshpy tap` and `meshpy logs`: requests as they end, and those that just ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import click

from meshpy.cli.output import ask_format_or, duration_s, print_record
from meshpy.cli.traffic_filter import filter_of, filter_options
from meshpy.cli.unseen import misspelt
from meshpy.client import Context, Operator
from meshpy.model.tap import TapFilter

__all__ = ["logs", "tap"]

_COLOURS = {"DENIED": "red", "ERROR": "yellow"}
_FORMAT = ask_format_or(help="How to print; json: one object a line.")
_RATE = click.option(
    "--max-rps", type=click.IntRange(1, 1000), default=100, show_default=True, help="Of one sidecar."
)


@click.command()
@filter_options
@click.option("--for", "for_s", type=duration_s, default="10m", metavar="TIME", help="How long.  [10m]")
@click.option("-l", "--limit", type=click.IntRange(min=1), help="End after so many.")
@_RATE
@_FORMAT
def tap(output: str, limit: int | None, for_s: float, max_rps: int, **wanted: Any) -> None:
    """Show requests as they end, until Ctrl-C. Paths come without their query, headers not at all.

    \b
    Examples:
      meshpy tap --to api --verdict denied
      meshpy tap --from web --status 5 -o json
    """
    if why := misspelt((wanted["source"], wanted["destination"])):
        click.echo(why, err=True)  # one may come by that name: the tap goes on
    for record in islice(_tapped(filter_of(wanted), for_s, max_rps), limit):
        _print(record, output)


@click.command()
@filter_options
@click.option(
    "--since", "since_s", type=duration_s, default="30s", metavar="TIME", help="At most 30s.  [30s]"
)
@click.option(
    "-n", "--tail", type=click.IntRange(1, 5000), default=100, show_default=True, help="The newest."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with requests as they end, until Ctrl-C.")
@_RATE
@_FORMAT
def logs(output: str, tail: int, since_s: float, follow: bool, max_rps: int, **wanted: Any) -> None:
    """Show the last requests of the whole mesh, each as its two sidecars saw it.

    They come from the memory of the sidecars, which reaches back 30 seconds; older ones are in the access
    logs (`docker service logs STACK_SERVICE-sidecar`).

    \b
    Examples:
      meshpy logs --verdict denied
      meshpy logs --to api --slower-than 250ms -f -o json
    """
    asked = filter_of(wanted)
    query = urlencode({**asked.to_json(), "limit": tail, "since_s": since_s})
    answer = Operator(Context.load()).call("GET", f"/v1/requests?{query}")
    for record in answer["requests"]:
        _print(record, output)
    if not answer["requests"] and output != "json":
        why = misspelt((wanted["source"], wanted["destination"]))
        click.echo(why or f"no such request within {since_s:g} s", err=True)
    if missing := answer["sidecars_without_answer"]:
        click.echo(f"{missing} sidecars did not answer", err=True)
    for record in _tapped(asked, 3600.0, max_rps) if follow else ():
        _print(record, output)


def _tapped(asked: TapFilter, for_s: float, max_rps: int) -> Iterator[Mapping[str, Any]]:
    query = urlencode({**asked.to_json(), "max_rps": max_rps, "for_s": for_s})
    return map(json.loads, Operator(Context.load(), timeout_s=30).lines(f"/v1/tap?{query}"))


def _print(record: Mapping[str, Any], output: str) -> None:
    if output == "json":
        print_record(record)
    else:
        click.echo(_line(record))


def _line(record: Mapping[str, Any]) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(record["at"]))
    ends = f"{record['source'] or 'outside'} → {record['destination']}"
    what = (
        f"{record['method']} {record['path']} {record['status']}" if record["method"] else record["protocol"]
    )
    parts = [clock, f"{record['direction']:3}", ends, what, f"{record['duration_ms']:.1f}ms"]
    parts.append("mTLS" if record["mtls"] else "plain")
    if record["flags"] not in ("-", ""):
        parts.append(record["flags"])
    if record["attempts"] > 1:
        parts.append(f"{record['attempts']} attempts")
    if record["verdict"] == "DENIED":
        parts.append(f"denied by {record['policy']} {record['rule']}".rstrip())
    return click.style(" ".join(parts), fg=_COLOURS.get(record["verdict"]))
