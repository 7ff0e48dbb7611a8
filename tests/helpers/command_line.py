"""Command lines as documents and help texts write them: parsed by the commands themselves, never run."""

import contextlib
import re
import shlex
from collections.abc import Iterator

import click

from meshpy.cli.main import cli

PLUGIN = ["docker", "mesh"]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a list or pipe, those of `$(…)` too; redirections are left out."""
    inner = re.findall(r"\$\(([^()]*)\)", line)
    for each in inner:
        yield from simple_commands(each)
    lexer = shlex.shlex(re.sub(r"\$\([^()]*\)", "X", line), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    is_target = False
    for token in lexer:
        if set(token) <= set("|&;"):
            yield words
            words = []
        elif set(token) <= set("<>"):
            is_target = True
        elif not is_target:
            words.append(token)
        else:
            is_target = False
    yield words


def parse(line: str) -> None:
    """Parse each `meshpy …` and `docker mesh …` of a line as the shell would hand it over.

    Raises:
        click.UsageError: there is no such command or option, or it lacks something.
    """
    for words in simple_commands(line):
        given = ["meshpy", *words[2:]] if words[:2] == PLUGIN else words
        if given[:1] in (["meshpy"], [".venv/bin/meshpy"]):
            _parse(given[1:])


def _parse(words: list[str]) -> None:
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        _, found, words = command.resolve_command(click.Context(command), words)
        assert found is not None
        command = found
    with contextlib.suppress(click.exceptions.Exit):
        command.make_context(command.name, words)
