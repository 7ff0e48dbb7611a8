"""`meshpy proxy`: where every sidecar stands, and what one of them decides by, in istioctl's manner."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import click

from meshpy.cli.groups import Group
from meshpy.cli.output import ask_format, print_json, print_table
from meshpy.cli.proxy_config import SECTIONS, raw
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from meshpy.model.names import ServiceName
from meshpy.wire import decode_snapshot

__all__ = ["proxy"]

STATES = ("SYNCED", "PENDING", "STALE", "REJECTED", "NO_SNAPSHOT", "DISCONNECTED")
HEADERS = ("SERVICE", "TASK", "NODE", "STATE", "VERSION", "REVISION", "CONFIG", "CERT", "LEFT", "REASON")


@click.group(cls=Group)
def proxy() -> None:
    """Look at the sidecars.

    \b
    Examples:
      meshpy proxy status
      meshpy proxy config 4vq9 routes
      meshpy proxy config 4vq9 endpoints -o json
    """


@proxy.command()
@click.argument("service", required=False)
@click.option("-n", "--namespace", default="default", show_default=True, help="Of a bare name.")
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Only those in this state.")
@ask_format
def status(service: str | None, namespace: str, state: str | None, output: str) -> None:
    """Show what each sidecar holds, since when, and its certificate. Exit 1 when one is not SYNCED.

    CONFIG is how long its snapshot is in force, CERT how old its certificate is, LEFT how long that is good.

    \b
    Examples:
      meshpy proxy status shop/api
      meshpy proxy status --state stale
    """
    rows = list(_sidecars(Operator(Context.load()), service, namespace, state))
    if output == "json":
        print_json({"sidecars": rows})
    else:
        print_table(HEADERS, [_cells(row) for row in rows])
        _print_summary(rows)
    if any(row["state"] != "SYNCED" for row in rows):
        sys.exit(1)


@proxy.command()
@click.argument("task")
@click.argument("section", type=click.Choice(list(SECTIONS)), required=False)
@ask_format
def config(task: str, section: str | None, output: str) -> None:
    """Show what the sidecar of TASK (its id, or how it begins) decides by; without SECTION all of it.

    \b
    Examples:
      meshpy proxy config 4vq9 routes
      meshpy proxy config 4vq9 endpoints -o json
    """
    answer: dict[str, Any] = Operator(Context.load()).call(
        "GET", f"/v1/sidecars/{quote(task, safe='')}/config"
    )
    if output == "json":
        print_json(answer if section is None else raw(answer, section))
        return
    if answer["snapshot"] is None and section != "secrets":
        raise MeshpyError(
            f"what task {answer['sidecar']['task']} holds is not known here"
            f" (state {answer['sidecar']['state']}); ask its admin port: /config_dump"
        )
    snapshot = decode_snapshot(answer["snapshot"]) if answer["snapshot"] is not None else None
    for number, name in enumerate((section,) if section else SECTIONS):
        if section is None:
            click.echo(("\n" if number else "") + name)
        headers, rows = SECTIONS[name](snapshot, answer)
        print_table(headers, rows)


def _sidecars(
    operator: Operator, service: str | None, namespace: str, state: str | None
) -> Iterator[dict[str, Any]]:
    asked = {"limit": "500"}
    if service is not None:
        try:
            asked["service"] = str(ServiceName.parse(service, default_namespace=namespace))
        except ValueError as error:
            raise MeshpyError(str(error)) from error
    if state is not None:
        asked["state"] = state.upper()
    while True:
        answer = operator.call("GET", f"/v1/sidecars?{urlencode(asked)}")
        for each in answer.get("silent", ()):
            click.echo(f"warning: what this replica of the control plane holds is missing: {each}", err=True)
        yield from answer["sidecars"]
        if answer["next"] is None:
            return
        asked["after"] = answer["next"]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    begun, ends = row["certificate_not_before"], row["certificate_not_after"]
    version = row["held"] or "-"
    if row["version"] not in ("", row["held"]):
        version = f"{version} → {row['version']}"
    return (
        row["service"],
        row["task"] or "-",
        row["node"] or "-",
        row["state"] + (" (canary)" if row["canary"] else ""),
        version,
        str(row["revision"]),
        _span(row["held_s"]),
        _span(_since(begun)),
        _span(-_since(ends)),
        row["reason"] or "-",
    )


def _print_summary(rows: list[dict[str, Any]]) -> None:
    counts = {state: sum(row["state"] == state for row in rows) for state in STATES}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    click.echo(f"{len(rows)} sidecars{': ' + told if told else ''}", err=True)


def _since(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def _span(seconds: float | None) -> str:
    """`42s`, `7m`, `3h`, `12d`: the largest unit alone; `-` where there is none, `ended` before now."""
    if seconds is None:
        return "-"
    if seconds < 0:
        return "ended"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"
