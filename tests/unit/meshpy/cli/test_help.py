"""What a stranger reads in `--help`: options say what they are, commands have examples that parse."""

import contextlib
import inspect
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from meshpy.cli.main import cli, run
from tests.helpers.command_line import parse

ROOT = Path(__file__).parents[4]


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command and group that help shows, by its words."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            if not found.hidden:
                yield from commands(found, f"{path} {name}")


ALL = dict(commands(cli, "meshpy"))


def examples(command: click.Command) -> list[str]:
    """The lines under `Example:` or `Examples:`."""
    found = re.search(r"^Examples?:\n((?:\s+\S.*\n?)+)", inspect.cleandoc(command.help or ""), re.MULTILINE)
    return [line.strip() for line in found[1].splitlines()] if found else []


@pytest.mark.parametrize("path", ALL)
def test_every_option_says_what_it_is(path):
    silent = [
        option.opts[-1]
        for option in ALL[path].params
        if isinstance(option, click.Option) and not option.hidden and not option.help
    ]
    assert silent == []


@pytest.mark.parametrize("path", [path for path in ALL if path != "meshpy"])
def test_every_command_shows_examples_that_parse(path):
    """Options that do not exist, or miss their value, would be refused here as in a shell."""
    lines = examples(ALL[path])
    assert lines
    for line in lines:
        parse(line)


def test_durations_are_called_time_everywhere():
    named = [
        (path, option.opts[-1])
        for path, command in ALL.items()
        for option in command.params
        if "DURATION" in option.make_metavar(click.Context(command))
    ]
    assert named == []


def test_a_namespace_can_be_given_by_one_letter_everywhere():
    lacking = [
        path
        for path, command in ALL.items()
        for option in command.params
        if "--namespace" in option.opts and "-n" not in option.opts
    ]
    assert lacking in ([], ["meshpy demo"])


@pytest.mark.parametrize("words", [("get", "AuthorizationPolcy"), ("delete", "AuthorizationPolcy", "x")])
def test_a_mistyped_kind_is_told_the_right_one(words, capsys):
    """Before the control plane is asked."""
    assert run(words) == 2
    assert "did you mean 'AuthorizationPolicy'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["aply"], "Did you mean `apply`?"),
        (["policy", "explan"], "Did you mean `explain`?"),
        (["ca", "rotat"], "Did you mean `rotate`?"),
        (["describe", "pod"], "There are: service."),
        (["completion"], "Missing argument 'SHELL'. Choose from: bash, zsh, fish"),
        (["bench", "shop"], "'shop' is no URL; write http://"),
        (["inject", "--stak", "x", "y"], "Did you mean '--stack'?"),
    ],
)
def test_what_is_mistyped_is_told_what_is_right(words, hint, capsys):
    assert run(words) == 2
    assert hint in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named_without_a_number(capsys, tmp_path):
    missing = str(tmp_path / "missing")
    for words in (
        ("ca", "sign", missing, "--root", "r", "--root-key", "k"),
        ("inject", "--stack", "shop", missing),
        ("policy", "suggest", "--stack", missing, "--from", missing),
        ("apply", "-f", missing),
        ("ca", "import", "--root", missing, "--chain", missing),
    ):
        assert run(words) == 2, words
        said = capsys.readouterr().err
        assert "[Errno" not in said
        assert "o such file" in said


def test_exit_codes_are_told(capsys):
    assert run(["--help"]) == 0
    assert "Exit codes: 0 fine, 1 findings" in capsys.readouterr().out


COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]m")


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
@pytest.mark.parametrize("line", ["aply", "policy explain web api GET /admin --stack stacks/shop.yml"])
def test_colours_are_for_terminals_and_no_color_turns_them_off(line, no_color, is_coloured):
    """On a terminal of its own, as a person sees it."""
    ours, theirs = pty.openpty()
    env = os.environ | {"NO_COLOR": no_color, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from meshpy.cli.main import main; main()", *line.split()]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with subprocess.Popen(command, cwd=ROOT, env=env, **pipes) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
        process.wait(30)
    assert bool(COLOUR.search(shown.decode())) is is_coloured, shown
