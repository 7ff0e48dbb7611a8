"""`meshpy check`: whether this Swarm can carry the mesh, and whether the mesh on it is well."""

from __future__ import annotations

import functools
import ipaddress
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import click

from meshpy.cli.checks.bypass import BYPASS, send_within
from meshpy.cli.checks.carriers import CARRIERS, send_across
from meshpy.cli.checks.data_plane import DATA_PLANE
from meshpy.cli.checks.engine import ENGINE
from meshpy.cli.checks.identity import IDENTITY
from meshpy.cli.checks.installed import BEFORE, INSTALLED
from meshpy.cli.checks.sending import probes
from meshpy.cli.checks.site import NotAsked, Site
from meshpy.cli.checks.verdict import Check, Outcome, Result, is_passed, run_checks
from meshpy.cli.docker import Docker
from meshpy.cli.engine_api import EngineApi
from meshpy.cli.output import ask_format_or, duration_s, print_json
from meshpy.inject.options import Settings

__all__ = ["check", "print_outcomes", "site_of"]

PRETTY = {Result.SUCCESS: "√", Result.WARNING: "‼", Result.ERROR: "×", Result.UNKNOWN: "?"}
PLAIN = {Result.SUCCESS: "ok", Result.WARNING: "!!", Result.ERROR: "XX", Result.UNKNOWN: "??"}
COLOURS = {Result.SUCCESS: "green", Result.WARNING: "yellow", Result.ERROR: "red", Result.UNKNOWN: "yellow"}
AGAIN_S = 2.0


@click.command()
@click.option("--pre", is_flag=True, help="Before `meshpy install`: can this Swarm carry a mesh?")
@click.option("--stack", "stacks", multiple=True, help="Of the stacks, look at this one alone; repeatable.")
@click.option("--probe/--no-probe", default=True, help="Send probes to the nodes and the apps' networks.")
@click.option(
    "--image", default=Settings().image, show_default=True, help="Of the probes; it needs Python 3.8."
)
@click.option(
    "--subnet", default="10.201.0.0/20", show_default=True, help="With --pre: of the network `mesh`."
)
@click.option("--no-encrypt", is_flag=True, help="Encrypted networks are not wanted: ESP is not needed.")
@click.option(
    "--endpoint-mode", type=click.Choice(["vip", "dnsrr"]), default="vip", help="dnsrr needs no IP_VS."
)
@click.option(
    "--wait",
    type=duration_s,
    metavar="TIME",
    default="0s",
    help="Look again for so long while something fails: 2m.",
)
@ask_format_or("short", help="How to print; short shows only what is not well.")
def check(
    pre: bool,
    stacks: tuple[str, ...],
    probe: bool,
    image: str,
    subnet: str,
    no_encrypt: bool,
    endpoint_mode: str,
    wait: float,
    output: str,
) -> None:
    """Look at the Swarm and the mesh, and say what is wrong and what to do. Exit 1 when anything fails.

    What could not be looked at is shown as such, and fails too where the mesh stands on it.

    \b
    Examples:
      meshpy check --pre
      meshpy check --stack shop -o short
    """
    try:
        ipaddress.ip_network(subnet, strict=False)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write it as 10.201.0.0/20", param_hint="--subnet") from error
    look = functools.partial(
        site_of,
        image=image,
        probe=probe,
        stacks=stacks,
        subnet=subnet,
        is_before=pre,
        plain_is_wanted=no_encrypt,
        dnsrr_is_wanted=endpoint_mode == "dnsrr",
    )
    checks = (
        (*ENGINE, *BEFORE, *CARRIERS)
        if pre
        else (*ENGINE, *CARRIERS, *INSTALLED, *IDENTITY, *DATA_PLANE, *BYPASS)
    )
    outcomes = _until_passed(checks, look, wait, show=output != "json")
    if output == "json":
        print_json(_as_json(outcomes))
    else:
        print_outcomes(outcomes, only_bad=output == "short")
    if not is_passed(outcomes):
        sys.exit(1)


def site_of(
    *,
    image: str,
    probe: bool,
    stacks: Sequence[str] = (),
    subnet: str = "",
    is_before: bool = False,
    plain_is_wanted: bool = False,
    dnsrr_is_wanted: bool = False,
) -> Site:
    """The Swarm behind `docker`."""
    engine = EngineApi()

    def begin() -> object:
        if not probe:
            raise NotAsked("--no-probe")
        return probes(engine, Docker(), image, lambda text: click.echo(text, err=True))

    return Site(
        engine,
        across=send_across(begin),
        within=send_within(begin),
        stacks=stacks,
        subnet=subnet,
        is_before=is_before,
        plain_is_wanted=plain_is_wanted,
        dnsrr_is_wanted=dnsrr_is_wanted,
    )


def _until_passed(
    checks: Sequence[Check], look: Callable[[], Site], wait_s: float, *, show: bool
) -> list[Outcome]:
    deadline = time.monotonic() + wait_s
    while True:
        outcomes: list[Outcome] = []
        site = look()
        for outcome in run_checks(checks, site):
            if show and sys.stderr.isatty():
                click.echo(f"\r\033[K{outcome.check.fact}…", nl=False, err=True)
            outcomes.append(outcome)
        if show and sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)
        if is_passed(outcomes) or time.monotonic() >= deadline:
            return outcomes
        time.sleep(AGAIN_S)


def print_outcomes(outcomes: Sequence[Outcome], *, only_bad: bool = False) -> None:
    """Sections as `linkerd check` prints them: marks and colours on a terminal, words in a pipe."""
    is_pretty = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    marks = PRETTY if is_pretty else PLAIN
    for section, found in groupby(outcomes, key=lambda each: each.check.section):
        shown = [each for each in found if not only_bad or each.verdict.result is not Result.SUCCESS]
        if not shown:
            continue
        click.echo(f"{section}\n{'-' * len(section)}")
        for each in shown:
            mark = click.style(marks[each.verdict.result], fg=COLOURS[each.verdict.result])
            click.echo(f"{mark} {each.check.fact}" + _seen(each), color=None if is_pretty else False)
            for line in _trouble(each):
                click.echo(f"    {line}")
        click.echo("")
    final = Result.SUCCESS if is_passed(outcomes) else Result.ERROR
    click.echo(
        f"Status check results are {click.style(marks[final], fg=COLOURS[final])}",
        color=None if is_pretty else False,
    )


def _seen(outcome: Outcome) -> str:
    verdict = outcome.verdict
    return f" ({verdict.detail})" if verdict.result is Result.SUCCESS and verdict.detail else ""


def _trouble(outcome: Outcome) -> Iterator[str]:
    verdict = outcome.verdict
    if verdict.result is Result.SUCCESS:
        return
    yield verdict.detail
    if verdict.hint:
        yield f"hint: {verdict.hint}"
    if verdict.result is not Result.UNKNOWN:
        yield f"see {outcome.docs}"


def _as_json(outcomes: Sequence[Outcome]) -> dict[str, object]:
    return {
        "success": is_passed(outcomes),
        "categories": [
            {"categoryName": section, "checks": [each.to_json() for each in found]}
            for section, found in groupby(outcomes, key=lambda each: each.check.section)
        ],
    }
