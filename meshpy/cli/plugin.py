"""`docker mesh …`: this tool as a plugin of the docker CLI, and shell completion for both.

The CLI asks a plugin for its metadata before every run, so the file that it starts is a small shell script
which answers that itself (10 ms instead of the 300 ms of an interpreter) and calls `meshpy-docker-plugin` for
the rest.
Source: docker/cli, cli-plugins/manager and `docs/extend/cli_plugins.md`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import click

from meshpy.cli.groups import Group
from meshpy.cli.output import ask_format, print_result
from meshpy.errors import MeshpyError

__all__ = ["completion", "main", "plugin"]

NAME = "docker-mesh"
ENTRY = "meshpy-docker-plugin"
SHELLS = ("bash", "zsh", "fish")
_WITH_VALUE = {"--config": "DOCKER_CONFIG", "--context": "DOCKER_CONTEXT", "-c": "DOCKER_CONTEXT"}
_WITH_VALUE |= {
    "--host": "DOCKER_HOST",
    "-H": "DOCKER_HOST",
    "--tlscacert": "",
    "--tlscert": "",
    "--tlskey": "",
}
_WITH_VALUE |= {"--log-level": "", "-l": ""}
_FLAGS = {"--debug": "", "-D": "", "--tls": "DOCKER_TLS", "--tlsverify": "DOCKER_TLS_VERIFY"}
_SHIM = """#!/bin/sh
# Written by `meshpy plugin install`.
if [ "$1" = docker-cli-plugin-metadata ]; then
    cat <<'END'
{metadata}
END
    exit 0
fi
exec '{entry}' "$@"
"""


@click.group(cls=Group)
def plugin() -> None:
    """Make `docker mesh …` out of this tool.

    \b
    Examples:
      meshpy plugin install
      docker mesh status
    """


@plugin.command()
@click.option("--hooks", is_flag=True, help="Hint after `docker stack deploy` and `docker stack ls`.")
@ask_format
def install(hooks: bool, output: str) -> None:
    """Install the plugin for this user, in the docker CLI's folder (~/.docker/cli-plugins).

    \b
    Examples:
      meshpy plugin install
      meshpy plugin install --hooks
    """
    entry = shutil.which(ENTRY) or str(Path(sys.executable).with_name(ENTRY))
    if not Path(entry).exists() or "'" in entry:
        raise MeshpyError(f"{ENTRY} is not on PATH: install swarm-meshpy with pip, pipx or uv first")
    folder = _config_folder() / "cli-plugins"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / NAME
    draft = folder / f"{NAME}.new"
    draft.write_text(_SHIM.format(metadata=json.dumps(_metadata(), indent=1), entry=entry))
    draft.chmod(0o755)
    draft.replace(file)
    if hooks:
        _write_hooks()
    print_result(output, {"file": str(file), "hooks": hooks}, f"{file}\ntry: docker mesh --help")


@plugin.command()
@ask_format
def uninstall(output: str) -> None:
    """Remove the plugin.

    \b
    Example:
      meshpy plugin uninstall
    """
    file = _config_folder() / "cli-plugins" / NAME
    if not file.exists():
        raise MeshpyError(f"{file}: is not there")
    file.unlink()
    print_result(output, {"removed": str(file)}, f"removed {file}")


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell; the docker CLI completes `docker mesh` by itself.

    \b
    Example:
      meshpy completion bash > /etc/bash_completion.d/meshpy
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - only here

    from meshpy.cli.main import cli  # noqa: PLC0415 - it imports the commands by name

    made = get_completion_class(shell)
    if made is None:
        raise MeshpyError(f"{shell} cannot be completed")
    click.echo(made(cli, {}, "meshpy", "_MESHPY_COMPLETE").source())


def _config_folder() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG", "~/.docker")).expanduser()


def _metadata() -> dict[str, str]:
    return {
        "SchemaVersion": "0.1.0",  # CLIs before 28.4.1 take no other
        "Vendor": "meshpy",
        "Version": version("swarm-meshpy"),
        "ShortDescription": "Service mesh for Docker Swarm",
    }


def _write_hooks() -> None:
    file = _config_folder() / "config.json"
    try:
        config = json.loads(file.read_text()) if file.exists() else {}
        config.setdefault("plugins", {}).setdefault("mesh", {})["hooks"] = "stack deploy,stack ls"
        config.setdefault("features", {})["hooks"] = "true"
    except (ValueError, AttributeError, TypeError) as error:
        raise MeshpyError(f"{file}: is no JSON that the docker CLI would read: {error}") from error
    draft = file.with_name("config.json.new")
    draft.write_text(json.dumps(config, indent="\t"))
    draft.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o600)
    draft.replace(file)


def main() -> NoReturn:
    """The entry point `meshpy-docker-plugin`."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["docker-cli-plugin-metadata"]:
        print(json.dumps(_metadata()))
        sys.exit(0)
    if arguments[:1] == ["__complete"]:
        _complete(arguments[1:])
        sys.exit(0)
    words = _own_words(arguments)
    if words[:1] == ["docker-cli-plugin-hooks"]:
        _hook(words[1:])
        sys.exit(0)
    from meshpy.cli.main import run  # noqa: PLC0415 - metadata and hooks need no commands

    sys.exit(run(words, name="docker mesh"))


def _own_words(arguments: Sequence[str]) -> list[str]:
    """What is ours of `[GLOBAL OPTIONS] mesh WORDS…`; docker's options go where our docker calls see them."""
    rest = list(arguments)
    while rest and rest[0] not in ("mesh", "help"):
        word, equals, value = rest.pop(0).partition("=")
        if word in _WITH_VALUE:
            value = value if equals else (rest.pop(0) if rest else "")
            if _WITH_VALUE[word]:
                os.environ[_WITH_VALUE[word]] = value
        elif _FLAGS.get(word):
            os.environ[_FLAGS[word]] = "1"
    if rest[:2] == ["help", "mesh"]:
        return [*rest[2:], "--help"]
    return rest[1:]


def _complete(words: Sequence[str]) -> None:
    """Answer cobra's protocol: a value and its help a line, then `:4`, no files."""
    from click.shell_completion import ShellComplete  # noqa: PLC0415 - only here

    from meshpy.cli.main import cli  # noqa: PLC0415 - it imports the commands by name

    mine = list(words)[1:] if list(words[:1]) == ["mesh"] else list(words)
    *before, incomplete = mine or [""]
    found = ShellComplete(cli, {}, "mesh", "_MESH_COMPLETE").get_completions(before, incomplete)
    for item in found:
        click.echo(f"{item.value}\t{(item.help or '').splitlines()[0] if item.help else ''}")
    click.echo(":4")


def _hook(words: Sequence[str]) -> None:
    """A hint after a command of docker itself; nothing to say is an empty template."""
    try:
        asked = json.loads(words[0]) if words else {}
    except ValueError:
        asked = {}
    hints = {
        "stack deploy": "See what the mesh sees: docker mesh status",
        "stack ls": "Who calls whom: docker mesh dashboard",
    }
    hint = "" if asked.get("CommandError") else hints.get(str(asked.get("RootCmd", "")), "")
    click.echo(json.dumps({"Type": 0, "Template": hint}))
