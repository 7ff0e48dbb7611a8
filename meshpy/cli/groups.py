"""Groups of commands: a mistyped name is told the right one; commands are imported when they are called."""

from __future__ import annotations

import difflib
import importlib
from typing import NamedTuple

import click

__all__ = ["Group", "LazyGroup", "Target"]


class Target(NamedTuple):
    """Where a command is, and its line in the help."""

    path: str
    help: str
    section: str = "Commands"


class Group(click.Group):
    """A group that says which commands there are when it is asked for another."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], names, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else f" There are: {', '.join(names)}."
            raise click.UsageError(f"No such command `{args[0]}`.{hint}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """A group that knows its commands by name and imports one when it is called."""

    def __init__(self, *args: object, targets: dict[str, Target], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # click's own arguments, passed on
        self.targets = targets

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        target = self.targets.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.path.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        widest = max(map(len, self.targets))
        for section in dict.fromkeys(target.section for target in self.targets.values()):
            rows = [(name, each.help) for name, each in self.targets.items() if each.section == section]
            with formatter.section(section):
                formatter.write_dl([(name.ljust(widest), text) for name, text in rows])
