"""`meshpy stat`, `edges`, `routes` and `top`: the traffic of now, in linkerd's manner, without Prometheus."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import click

from meshpy.cli.output import ask_format, ask_format_or, duration_s, print_json, print_record, print_table
from meshpy.cli.traffic_filter import ends_options, filter_of, filter_options
from meshpy.cli.unseen import misspelt
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from meshpy.model.tap import TapFilter

__all__ = ["edges", "routes", "stat", "top"]

Row = Mapping[str, Any]
_WATCH = click.option("-w", "--watch", is_flag=True, help="Again every two seconds, until Ctrl-C.")
_EVERY_S = 2.0


@click.command()
@click.argument("names", nargs=-1, metavar="[SERVICE]...")
@ends_options
@click.option(
    "--by",
    type=click.Choice(["service", "namespace"]),
    default="service",
    show_default=True,
    help="A row for each.",
)
@_WATCH
@ask_format
def stat(names: Sequence[str], output: str, by: str, watch: bool, source: str, destination: str) -> None:
    """Show requests, success and latency of the last ten seconds, of what each service was asked.

    \b
    Examples:
      meshpy stat
      meshpy stat api --from web
      meshpy stat --by namespace
    """

    def look() -> Sequence[Row]:
        query = {"by": by, "source": source, "destination": destination}
        rows: list[Row] = _call("/v1/stat", query)["rows"]
        return [row for row in rows if not names or _is_any(names, row["name"])]

    _show(look, _stat_table, output, (*names, source, destination), is_watched=watch)


@click.command()
@ends_options
@_WATCH
@ask_format
def edges(output: str, watch: bool, source: str, destination: str) -> None:
    """Show who calls whom, over which protocol, and whether both proved who they are.

    \b
    Examples:
      meshpy edges --to api
      meshpy edges --from outside -o json
    """

    def look() -> Sequence[Row]:
        query = {"by": "edge", "source": source, "destination": destination}
        rows: Sequence[Row] = _call("/v1/stat", query)["rows"]
        return rows

    _show(look, _edge_table, output, (source, destination), is_watched=watch)


@click.command()
@filter_options
@click.option(
    "--since", "since_s", type=duration_s, default="10s", metavar="TIME", help="At most 30s.  [10s]"
)
@_WATCH
@ask_format
def routes(output: str, since_s: float, watch: bool, **wanted: Any) -> None:
    """Show figures by route, as the callers' sidecars counted them; `--direction in` asks the callees'.

    \b
    Examples:
      meshpy routes --from web
      meshpy routes --to catalog --status 5
    """
    asked = filter_of({**wanted, "direction": wanted["direction"] or "out"})
    _show(lambda: _groups(asked, "route", since_s), _route_table, output, _ends(wanted), is_watched=watch)


@click.command()
@filter_options
@click.option(
    "--since", "since_s", type=duration_s, default="10s", metavar="TIME", help="At most 30s.  [10s]"
)
@click.option("-n", "--rows", type=click.IntRange(1, 1000), default=25, show_default=True, help="How many.")
@click.option("--once", is_flag=True, help="Once, and end; so it is in a pipe.")
@ask_format_or(help="How to print; json: a line each.")
def top(output: str, since_s: float, rows: int, once: bool, **wanted: Any) -> None:
    """Show which paths are asked most; identifiers in them are put together as `{*}`. Until Ctrl-C.

    \b
    Examples:
      meshpy top --to api
      meshpy top --once -o json --verdict error
    """
    asked = filter_of({**wanted, "direction": wanted["direction"] or "in"})
    is_watched = not once and sys.stdout.isatty()

    def look() -> Sequence[Row]:
        return _groups(asked, "path", since_s)[:rows]

    if output == "json":
        for group in look():
            print_record(group)
        return
    _show(look, _top_table, output, _ends(wanted), is_watched=is_watched)


def _call(path: str, query: Mapping[str, str | float]) -> Any:
    given = {name: value for name, value in query.items() if value}
    return Operator(Context.load()).call("GET", f"{path}?{urlencode(given)}")


def _groups(asked: TapFilter, by: str, since_s: float) -> list[Row]:
    if not 0 < since_s <= 30:
        raise MeshpyError("--since: sidecars remember at most 30s")
    answer = _call("/v1/requests/groups", {**asked.to_json(), "by": by, "since_s": since_s})
    if missing := answer["sidecars_without_answer"]:
        click.echo(f"{missing} sidecars did not answer", err=True)
    return [{**group, "rps": round(group["count"] / since_s, 2)} for group in answer["groups"]]


def _ends(wanted: Mapping[str, Any]) -> tuple[str, str]:
    return wanted["source"], wanted["destination"]


def _show(
    look: Callable[[], Sequence[Row]],
    table: Callable[[Sequence[Row]], None],
    output: str,
    services: Sequence[str],
    *,
    is_watched: bool,
) -> None:
    while True:
        rows = look()
        if is_watched and output == "table" and sys.stdout.isatty():
            click.clear()
        if output == "table":
            table(rows)
            if not rows:
                why = misspelt(services) or "no such traffic was seen"
                click.echo(f"{why}; `meshpy status` lists the services", err=True)
        elif is_watched:
            print_record(list(rows))
        else:
            print_json(list(rows))
        if not is_watched:
            return
        time.sleep(_EVERY_S)


def _is_any(names: Sequence[str], name: str) -> bool:
    return any(each in (name, name.rpartition("/")[2]) for each in names)


def _figures(row: Row) -> tuple[str, ...]:
    return (f"{row['success_ratio']:.2%}", f"{row['rps']:.1f}", _ms(row["p50_ms"]), _ms(row["p95_ms"]),
            _ms(row["p99_ms"]))  # fmt: skip


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


_HEADS = ("SUCCESS", "RPS", "P50 MS", "P95 MS", "P99 MS")


def _stat_table(rows: Sequence[Row]) -> None:
    lines = [
        (
            row["name"],
            "√" if row["meshed"] else "-",
            *_figures(row),
            str(row["denied"]),
            str(row["tcp_connections"]),
        )
        for row in rows
    ]
    print_table(("NAME", "MESHED", *_HEADS, "DENIED", "TCP"), lines)


def _edge_table(rows: Sequence[Row]) -> None:
    lines = [
        (
            row["source"] or "outside",
            row["destination"],
            row["protocol"],
            "√" if row["mtls_ratio"] == 1 else f"{row['mtls_ratio']:.0%}",
            *_figures(row),
            str(row["denied"]),
        )
        for row in rows
    ]
    print_table(("FROM", "TO", "PROTOCOL", "MTLS", *_HEADS, "DENIED"), lines)


def _route_table(rows: Sequence[Row]) -> None:
    lines = [
        (row["source"] or "outside", row["destination"], row["name"] or f"{row['method']} (no name)",
         *_figures(row), str(row["denied"]))
        for row in rows
    ]  # fmt: skip
    print_table(("FROM", "TO", "ROUTE", *_HEADS, "DENIED"), lines)


def _top_table(rows: Sequence[Row]) -> None:
    lines = [
        (row["source"] or "outside", row["destination"], row["method"], row["name"], str(row["count"]),
         _ms(row["best_ms"]), _ms(row["worst_ms"]), _ms(row["last_ms"]), f"{row['success_ratio']:.2%}",
         str(row["denied"]))
        for row in rows
    ]  # fmt: skip
    heads = ("FROM", "TO", "METHOD", "PATH", "COUNT", "BEST", "WORST", "LAST", "SUCCESS", "DENIED")
    print_table(heads, lines)
