"""`meshpy demo`: the whole mesh on this machine, without Docker."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from meshpy.cli.output import ask_format, duration_s, print_json, print_table
from meshpy.demo.measure import policy_to_enforced_ms, summary
from meshpy.demo.runner import Demo, run_demo
from meshpy.demo.stacks import stacks_folder

__all__ = ["demo"]

WARM_UP_S = 3.0


@click.command()
@click.argument("stack", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--for", "length", type=duration_s, metavar="TIME", help="End by itself after this long, 20s say."
)
@click.option("--namespace", default="default", show_default=True, help="The stack's name.")
@click.option(
    "--policies",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Files or folders of policies. [default: the shop's own]",
)
@ask_format
def demo(
    stack: Path | None, length: float | None, namespace: str, policies: Sequence[Path], output: str
) -> None:
    """Run a stack file as a mesh of processes on loopback, without Docker.

    Without STACK it is the sample shop with a canary, an access policy and its own load. Shown is a live
    table of who calls whom; Ctrl-C ends it.

    \b
    Examples:
      meshpy demo
      meshpy demo --for 20s -o json
    """
    folder = stacks_folder()
    if stack is None:
        stack, policies = folder / "shop.yml", policies or (folder / "shop-policies",)
    texts = _texts(policies)
    signal.signal(signal.SIGTERM, _as_interrupt)
    talk = (lambda _line: None) if output == "json" else _say
    enforced_ms = None
    with run_demo(stack, namespace, texts, talk) as running:
        end = time.monotonic() + length if length else None
        try:
            _watch(running, end and min(end, time.monotonic() + WARM_UP_S), show=output != "json")
            enforced_ms = policy_to_enforced_ms(running, namespace)
            _watch(running, end, show=output != "json")
        except KeyboardInterrupt:
            _say("stopping")
        edges = running.operator.call("GET", "/v1/status")["edges"]
        result = summary(edges, running.plan.inventory) | {"policy_apply_to_enforced_ms": enforced_ms}
    if output == "json":
        print_json(result)
    else:
        print_table(
            ("OF ALL", ""), [(name.replace("_", " "), _figure(found)) for name, found in result.items()]
        )


def _figure(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {count}" for name, count in value.items()) or "-"
    return "-" if value is None else str(value)


def _texts(paths: Sequence[Path]) -> dict[str, str]:
    files = [
        file
        for path in paths
        for file in (sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path])
    ]
    return {str(file): file.read_text() for file in files}


def _as_interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    click.echo(line, err=True)


def _watch(running: Demo, end: float | None, *, show: bool) -> None:
    """Show the edges once a second until `end`, or for ever.

    Raises:
        MeshpyError: a process of the demo ended.
    """
    if not show:
        while end is None or time.monotonic() < end:
            running.crew.check()
            time.sleep(0.2)
        return
    from rich.console import Console  # noqa: PLC0415 - costs 60 ms, and only a terminal needs it
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(), refresh_per_second=2, transient=True) as live:
        while end is None or time.monotonic() < end:
            running.crew.check()
            live.update(_table(running, running.operator.call("GET", "/v1/status")))
            time.sleep(0.5)


def _table(running: Demo, status: Mapping[str, Any]) -> Any:
    from rich.table import Table  # noqa: PLC0415

    door = f"   shop: {running.door.url}" if running.door else ""
    table = Table(title=f"control plane: {running.operator.context.url}{door}", title_justify="left")
    table.add_column("FROM")
    table.add_column("TO")
    for name in ("RPS", "SUCCESS", "P50 MS", "P99 MS", "MTLS", "DENIED", "RETRIES"):
        table.add_column(name, justify="right")
    for edge in status["edges"]:
        table.add_row(
            edge["source"] or "outside",
            edge["destination"],
            f"{edge['rps']:.1f}",
            f"{edge['success_ratio']:.2%}",
            _ms(edge["p50_ms"]),
            _ms(edge["p99_ms"]),
            "√" if edge["mtls_ratio"] == 1 else f"{edge['mtls_ratio']:.0%}",
            str(sum(edge["denied"].values())),
            str(edge["retries"]),
        )
    return table


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
