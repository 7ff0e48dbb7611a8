"""`meshpy tap`: requests of the mesh as they end, in linkerd's manner."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import click

from meshpy.cli.output import duration_s
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from meshpy.model.tap import VERDICTS, TapFilter

__all__ = ["tap"]

_COLOURS = {"DENIED": "red", "ERROR": "yellow"}


@click.command()
@click.option("--from", "source", default="", metavar="SERVICE", help="`web`, `shop/web`, or `outside`.")
@click.option("--to", "destination", default="", metavar="SERVICE")
@click.option(
    "--direction", type=click.Choice(["in", "out"]), help="Told by the callee's or caller's sidecar."
)
@click.option("--method", default="")
@click.option("--path", default="", help="A prefix.")
@click.option("--status", default="", metavar="DIGITS", help="The first digits: 5 is every 5xx.")
@click.option("--verdict", type=click.Choice(VERDICTS, case_sensitive=False))
@click.option("--slower-than", "slower", type=duration_s, default="0s", metavar="TIME")
@click.option("--for", "for_s", type=duration_s, default="10m", metavar="TIME", help="How long.  [10m]")
@click.option("-l", "--limit", type=click.IntRange(min=1), help="End after so many.")
@click.option(
    "--max-rps", type=click.IntRange(1, 1000), default=100, show_default=True, help="Of one sidecar."
)
@click.option(
    "-o", "--output", type=click.Choice(["wide", "json"]), default="wide", help="json: one object a line."
)
def tap(output: str, limit: int | None, for_s: float, max_rps: int, slower: float, **wanted: Any) -> None:
    """Show requests as they end, until Ctrl-C. Paths come without their query, headers not at all.

    \b
    Examples:
      meshpy tap --to api --verdict denied
      meshpy tap --from web --status 5 -o json
    """
    given = {name: value for name, value in wanted.items() if value}
    try:
        asked = TapFilter.read({**given, **({"min_ms": slower * 1000} if slower else {})})
    except ValueError as error:
        raise MeshpyError(str(error)) from error
    query = urlencode({**asked.to_json(), "max_rps": max_rps, "for_s": for_s})
    lines = Operator(Context.load(), timeout_s=30).lines(f"/v1/tap?{query}")
    for line in islice(lines, limit):
        click.echo(line if output == "json" else _wide(json.loads(line)))


def _wide(record: Mapping[str, Any]) -> str:
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
