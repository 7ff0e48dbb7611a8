"""`meshpy bench`: what the mesh costs a stack of yours, beside the same stack without it."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import click

from meshpy.cli.engine_api import EngineApi
from meshpy.cli.output import ask_format, duration_s, print_json, print_table
from meshpy.errors import MeshpyError
from meshpy.overhead.containers import Usage, read_usage
from meshpy.overhead.load import Slice, Target, run_slice
from meshpy.overhead.report import QUANTILES, Side, figures, in_ms, page

__all__ = ["bench"]

WARM_UP_S = 2.0


@click.command()
@click.argument("url")
@click.option("--without", "plain_url", metavar="URL", help="The same of the stack without the mesh.")
@click.option(
    "--rate", type=click.FloatRange(0.1, 100_000), default=50.0, show_default=True, help="Requests a second."
)
@click.option(
    "--for", "length", type=duration_s, metavar="TIME", default="30s", show_default=True, help="Of each side."
)
@click.option(
    "--slices", type=click.IntRange(1, 100), default=6, show_default=True, help="The sides take turns."
)
@click.option("-X", "--method", default="GET", show_default=True, help="Of each request.")
@click.option("-H", "--header", "headers", multiple=True, help="'name: value'; repeatable.")
@click.option("-d", "--data", default="", help="The content of each request.")
@click.option("--stack", help="Count CPU and memory of this stack's tasks on this node.")
@click.option("--stack-without", "plain_stack", metavar="STACK", help="And of the one without the mesh.")
@click.option(
    "-f", "--file", "report", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots."
)
@ask_format
def bench(
    url: str,
    plain_url: str | None,
    rate: float,
    length: float,
    slices: int,
    method: str,
    headers: tuple[str, ...],
    data: str,
    stack: str | None,
    plain_stack: str | None,
    report: Path | None,
    output: str,
) -> None:
    """Send requests at a fixed rate to a service of yours, with the mesh and without, and compare.

    Deploy the original stack beside the meshed one under another name and other published ports. Latency is
    counted from when each request was due. It is your stack that answers: use requests that may be repeated.

    \b
    Examples:
      meshpy bench http://localhost:8000/products
      meshpy bench http://localhost:8000/ --without http://localhost:9000/ --rate 200 --for 1m -f cost.html
      meshpy bench http://localhost:8000/ --stack shop --without http://localhost:9000/ --stack-without plain
    """
    if plain_stack and not plain_url:
        raise click.UsageError("--stack-without goes with --without URL")
    for each in (url, *([plain_url] if plain_url else ())):
        _check_url(each)
    pairs = tuple(_header(each) for each in headers)
    sides = [("with the mesh", Target(url, rate, method, pairs, data.encode()), stack)]
    if plain_url:
        sides.append(("without", Target(plain_url, rate, method, pairs, data.encode()), plain_stack))
    measured = asyncio.run(_measure(sides, length / slices, slices))
    if report is not None:
        report.write_text(page(measured, _about(rate, length)))
        click.echo(f"{report} is written", err=True)
    if output == "json":
        print_json({side.title: figures(side) for side in measured})
    else:
        _print(measured)
    if any(side.total.failed for side in measured):
        sys.exit(1)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.UsageError(f"{url!r} is no URL; write http://localhost:8000/products")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"--header {text!r}: write 'name: value'")
    return name.strip(), value.strip()


async def _measure(sides: list[tuple[str, Target, str | None]], seconds: float, slices: int) -> list[Side]:
    """Warm both up, then let them take turns, each first in every second round."""
    for _, target, stack in sides:
        await _usage(stack)  # before any load, as the name may be wrong
        first = await run_slice(target, min(WARM_UP_S, seconds))
        if not any(word.isdigit() for word in first.answers):
            raise ConnectionError(f"{target.url} does not answer: {', '.join(first.answers)}")
    runs: list[list[Slice]] = [[] for _ in sides]
    used: list[list[Usage]] = [[] for _ in sides]
    for turn in range(slices):
        click.echo(f"slice {turn + 1} of {slices}", err=True)
        order = range(len(sides)) if turn % 2 == 0 else reversed(range(len(sides)))
        for number in order:
            _, target, stack = sides[number]
            before = await _usage(stack)
            runs[number].append(await run_slice(target, seconds))
            after = await _usage(stack)
            if before is not None and after is not None:
                used[number].append(after.since(before))
    return [
        _side(title, target, each, usage)
        for (title, target, _), each, usage in zip(sides, runs, used, strict=True)
    ]


async def _usage(stack: str | None) -> Usage | None:
    if stack is None:
        return None
    found = await asyncio.to_thread(read_usage, EngineApi().get, stack)
    if found is None:
        raise MeshpyError(f"--stack {stack}: this node runs no task of it; run `meshpy bench` where they are")
    return found


def _side(title: str, target: Target, slices: list[Slice], used: list[Usage]) -> Side:
    total = Slice()
    for each in slices:
        total.add(each)
    if not used:
        return Side(title, target.url, total, slices)
    last = used[-1]
    usage = Usage(
        last.apps,
        last.sidecars,
        sum(each.apps_cpu_s for each in used),
        sum(each.sidecars_cpu_s for each in used),
        last.apps_bytes,
        last.sidecars_bytes,
    )
    return Side(title, target.url, total, slices, usage)


def _about(rate: float, length: float) -> dict[str, str]:
    return {
        "meshpy": version("swarm-meshpy"),
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load": f"{rate:g} requests a second, {length:g} s a side, in alternating slices",
    }


def _print(sides: list[Side]) -> None:
    rows = [
        (f"p{share * 100:g} ms", *(in_ms(side.total.took_ms, share) for side in sides)) for share in QUANTILES
    ]
    rows.append(("requests", *(str(side.total.answers.total()) for side in sides)))
    rows.append(("failed", *(str(side.total.failed) for side in sides)))
    if any(side.usage for side in sides):
        cpu = (side.cpu_ms_per_request for side in sides)
        rows.append(("CPU ms a request", *("-" if each is None else f"{each:.2f}" for each in cpu)))
        for name in ("apps", "sidecars"):
            sizes = (getattr(side.usage, f"{name}_bytes", None) for side in sides)
            rows.append(
                (
                    f"memory of {name}, MiB",
                    *("-" if each is None else f"{each / 2**20:.0f}" for each in sizes),
                )
            )
    print_table(("", *(side.title.upper() for side in sides)), rows)
    late = sum(side.total.late for side in sides)
    if late:
        click.echo(f"{late} requests were begun late: this machine could not send so fast", err=True)
