"""The page of every command: what `--help` says, as a page."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from control_plane.__main__ import main as control_plane
from meshpy.cli.main import COMMANDS, cli
from proxy.options import parser

__all__ = ["pages"]


def pages() -> dict[str, str]:
    """Page name → Markdown."""
    lines = [
        "# Commands",
        "",
        "As `--help` has it. Exit codes: 0 fine, 1 findings or denied, 2 wrong usage or",
    ]
    lines += [
        "bad input, 3 could not run, 130 interrupted. `-o json` and `-o yaml` print one value on standard",
        "output (`tap`, `logs`, `events` and `top` one after the other), a failure as `{error, problems}`;",
        "what is said meanwhile goes to standard error.",
        "",
    ]
    for name in COMMANDS:
        lines += _section(("meshpy", name), cli)
    services = ["# Programs of the images", "", *_group(("meshpy-control-plane",), control_plane)]
    services += ["## meshpy-proxy", "", "```text", parser().format_help().rstrip(), "```", ""]
    return {"cli": "\n".join(lines), "programs": "\n".join(services)}


def _section(path: tuple[str, ...], parent: click.Group) -> Iterator[str]:
    context = click.Context(parent, info_name=" ".join(path[:-1]))
    command = parent.get_command(context, path[-1])
    if command is None:
        raise LookupError(f"{' '.join(path)} is listed and can't be found")
    if isinstance(command, click.Group):
        yield from _group(path, command)
        return
    own = click.Context(command, info_name=" ".join(path), parent=None)
    yield f"{'#' * len(path)} {' '.join(path)}"
    yield ""
    yield from _told(command)
    yield "```text"
    yield own.get_usage().removeprefix("Usage: ")
    yield "```"
    yield ""
    yield from _options(command, own)


def _group(path: tuple[str, ...], group: click.Group) -> Iterator[str]:
    yield f"{'#' * max(2, len(path))} {' '.join(path)}"
    yield ""
    yield from _told(group)
    for name in group.list_commands(click.Context(group)):
        yield from _section((*path, name), group)


def _told(command: click.Command) -> Iterator[str]:
    """The text, and what stands after `\\b` (examples) as it is."""
    text = inspect.cleandoc(command.help or "")
    for part in text.split("\n\n"):
        kept = part.removeprefix("\b\n")
        if kept != part:
            head, _, rest = kept.partition("\n")
            is_title = head.endswith(":")
            yield from ([head, ""] if is_title else [])
            yield "```sh"
            yield inspect.cleandoc("\n" + (rest if is_title else kept))
            yield "```"
        else:
            yield part
        yield ""


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    rows = [record for param in command.params if (record := param.get_help_record(context))]
    if not rows:
        return
    yield "| option | is |"
    yield "|---|---|"
    for names, text in rows:
        yield f"| `{' '.join(names.split())}` | {_cell(text)} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
