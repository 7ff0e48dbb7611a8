"""`meshpy rollout`: the careful change under way, and its end; and how `apply` follows one."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from meshpy.cli.groups import Group
from meshpy.cli.output import ask_format, print_json
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError

__all__ = ["current", "follow", "rollout", "show"]

_UNDER_WAY = ("WATCHING", "HELD")
_POLL_S = 0.5


@click.group(cls=Group, invoke_without_command=True)
@ask_format
@click.pass_context
def rollout(ctx: click.Context, output: str) -> None:
    """Show the rollout under way, or the last one. Exit 1 when it was rolled back.

    \b
    Examples:
      meshpy apply -f policies/ --canary 25% --watch 5m
      meshpy rollout
      meshpy rollout promote
    """
    if ctx.invoked_subcommand is None:
        _print(current(Operator(Context.load())), output)


@rollout.command()
@ask_format
def promote(output: str) -> None:
    """Put the canary's policies in force on every sidecar.

    \b
    Example:
      meshpy rollout promote
    """
    _print(Operator(Context.load()).call("POST", "/v1/rollout/promote")["rollout"], output)


@rollout.command()
@ask_format
def abort(output: str) -> None:
    """Take the candidate back from its canaries.

    \b
    Example:
      meshpy rollout abort
    """
    _print(Operator(Context.load()).call("POST", "/v1/rollout/abort")["rollout"], output)


def current(operator: Operator) -> dict[str, Any]:
    """The rollout under way, or the last one.

    Raises:
        MeshpyError: there was none.
    """
    state: dict[str, Any] | None = operator.call("GET", "/v1/rollout")["rollout"]
    if state is None:
        raise MeshpyError("there was no rollout since the control plane started; see `meshpy apply --canary`")
    return state


def follow(operator: Operator) -> dict[str, Any]:
    """Wait until the rollout under way ends or is held; its figures are shown on a terminal meanwhile."""
    while True:
        state = current(operator)
        if state["phase"] != "WATCHING":
            return state
        if sys.stderr.isatty():
            click.echo(f"\r{_line(state)}\x1b[K", nl=False, err=True)
        time.sleep(_POLL_S)


def _line(state: Mapping[str, Any]) -> str:
    seen = state["seen"]
    return (
        f"revision {state['revision']} on {_where(state)}: {_counts(seen)}; {state['remaining_s']:.0f} s left"
    )


def _counts(figures: Mapping[str, int]) -> str:
    return f"{figures['requests']} requests, {figures['denied']} denied, {figures['errors']} failed"


def _where(state: Mapping[str, Any]) -> str:
    if state["canary"] is None:
        return "every sidecar"
    return f"{len(state['canaries'])} canaries ({state['canary']} of each service)"


def show(state: Mapping[str, Any]) -> None:
    """Print where a rollout stands."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    click.echo(f"{state['phase']}: revision {state['revision']} on {_where(state)}")
    if state["reason"]:
        click.echo(f"  {state['reason']}")
    for name, text in (("seen", "with the change"), ("without", "without it")):
        click.echo(f"  {text}: {_counts(state[name])}")
    if state["phase"] in _UNDER_WAY and state["canary"] is not None:
        click.echo("  `meshpy rollout promote` puts it in force, `meshpy rollout abort` takes it back")


def _print(state: Mapping[str, Any], output: str) -> None:
    if output == "json":
        print_json(state)
    else:
        show(state)
    if state["phase"] == "ROLLED_BACK":
        sys.exit(1)
