"""Everything that commands print: tables, JSON, YAML, errors. Only a table on a terminal imports rich.

`-o json` and `-o yaml` print one value on standard output, or one after the other where they come one by
one; a failure is one too, `{"error": …, "problems": […]}`. What is said meanwhile goes to standard error.
NO_COLOR and a pipe both mean text without colours.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from meshpy.errors import DocumentError

__all__ = [
    "ask_format",
    "ask_format_or",
    "asked_format",
    "colours",
    "duration_s",
    "print_error",
    "print_json",
    "print_record",
    "print_result",
    "print_table",
]

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")


_FORMATS = ("table", "json", "yaml")
_YAML = "meshpy.yaml"
_OUTPUT = re.compile(r"(?:-o=?|--output=)(json|yaml)")


def ask_format(command: Command) -> Command:
    """Give a command `-o table|json|yaml`, passed to it as `output`.

    YAML is JSON in other clothes: the command is asked for `json`, and `print_json` and `print_record` know.
    """
    return ask_format_or()(command)


def ask_format_or(*more: str, help: str = "How to print.") -> Callable[[Command], Command]:  # noqa: A002 - click's
    """`ask_format` for a command that prints in `more` forms beside the three of all."""
    choice = click.Choice((*_FORMATS, *more))
    return click.option("-o", "--output", type=choice, default="table", callback=_dressed, help=help)


def _dressed(ctx: click.Context, _option: click.Parameter, value: str) -> str:
    if value != "yaml":
        return value
    ctx.meta[_YAML] = True
    return "json"


def asked_format(args: Sequence[str]) -> str:
    """The `json` or `yaml` that arguments ask for, also when they are wrong otherwise; "" for neither."""
    for word, after in zip(args, [*args[1:], ""], strict=True):
        if word == "--":
            break
        if found := _OUTPUT.fullmatch(f"-o{after}" if word in ("-o", "--output") else word):
            return found[1]
    return ""


def print_result(output: str, value: object, text: str) -> None:
    """What a command did: a sentence or more for people, a value for programs."""
    if output == "json":
        print_json(value)
    else:
        click.echo(text)


def print_json(value: object) -> None:
    """One value, as JSON or as the YAML that was asked for."""
    click.echo(_yaml(value) if _wants_yaml() else _json(value))


def print_record(value: object) -> None:
    """One of many that come one by one: a line of JSON, or a YAML document."""
    click.echo(f"---\n{_yaml(value)}" if _wants_yaml() else json.dumps(value, ensure_ascii=False))


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _wants_yaml() -> bool:
    ctx = click.get_current_context(silent=True)
    return ctx is not None and bool(ctx.meta.get(_YAML))


def _yaml(value: object) -> str:
    from meshpy.cli.yaml_output import yaml_text  # noqa: PLC0415 - the library takes 50 ms to come

    return yaml_text(value)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their texts. On a terminal long cells wrap; in a pipe a row is one line."""
    if sys.stdout.isatty():
        _print_rich(headers, rows)
        return
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    for row in (headers, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _print_rich(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - costs 60 ms, and only a terminal needs it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_error(error: Exception, output: str = "") -> None:
    """Tell the user what is wrong: on standard error or, asked for `json` or `yaml`, as an object."""
    message = _message(error)
    problems = error.problems if isinstance(error, DocumentError) else ()
    if output:
        summary = f"{len(problems)} problem{'s' * (len(problems) != 1)} found" if problems else message
        value = {"error": summary, "problems": [problem.to_json() for problem in problems]}
        click.echo(_yaml(value) if output == "yaml" else _json(value))
        return
    for line in message.splitlines():
        click.secho("error: ", fg="red", bold=True, nl=False, err=True, color=colours())
        click.echo(line, err=True)


def colours() -> bool | None:
    """False under NO_COLOR; None otherwise: click then looks whether a terminal is on the other end."""
    return False if os.environ.get("NO_COLOR") else None


def _message(error: Exception) -> str:
    if isinstance(error, click.UsageError):
        return " ".join(error.format_message().split())  # click lists choices a line each
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"  # what and why, without Python's number for it
    return str(error)


def duration_s(text: str) -> float:
    """Read `20s`, `1m30s`, `250ms`; a bare number is seconds. For `type=`, with `metavar="TIME"`.

    Raises:
        click.BadParameter: it is no duration.
    """
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    if not re.fullmatch(rf"(?:{_PART.pattern})+", text):
        raise click.BadParameter(f"{text!r} is no time; write 20s, 1m30s or 250ms")
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
