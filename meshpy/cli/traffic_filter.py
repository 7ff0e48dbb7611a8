"""The filters that tap, logs, top, routes, stat and edges share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from meshpy.cli.output import duration_s
from meshpy.errors import MeshpyError
from meshpy.model.tap import VERDICTS, TapFilter

__all__ = ["ends_options", "filter_of", "filter_options"]

Command = TypeVar("Command", bound=Callable[..., Any])

_ENDS = (
    click.option("--from", "source", default="", metavar="SERVICE", help="`web`, `shop/web`, or `outside`."),
    click.option("--to", "destination", default="", metavar="SERVICE", help="As --from."),
)
_REQUESTS = (
    click.option(
        "--direction", type=click.Choice(["in", "out"]), help="Told by the callee's or caller's sidecar."
    ),
    click.option("--method", default="", help="GET, say."),
    click.option("--path", default="", help="A prefix."),
    click.option("--status", default="", metavar="DIGITS", help="The first digits: 5 is every 5xx."),
    click.option("--verdict", type=click.Choice(VERDICTS, case_sensitive=False), help="How it ended."),
    click.option(
        "--slower-than", "slower", type=duration_s, metavar="TIME", default="0s", help="250ms, say."
    ),
)


def ends_options(command: Command) -> Command:
    """Give a command `--from` and `--to`."""
    for option in reversed(_ENDS):
        command = option(command)
    return command


def filter_options(command: Command) -> Command:
    """Give a command every filter of requests."""
    for option in reversed((*_ENDS, *_REQUESTS)):
        command = option(command)
    return command


def filter_of(given: Mapping[str, Any]) -> TapFilter:
    """The filter of a command's options.

    Raises:
        MeshpyError: a value that cannot be.
    """
    slower = given.get("slower") or 0.0
    named = {name: value for name, value in given.items() if value and name != "slower"}
    try:
        return TapFilter.read({**named, **({"min_ms": slower * 1000} if slower else {})})
    except ValueError as error:
        raise MeshpyError(str(error)) from error
