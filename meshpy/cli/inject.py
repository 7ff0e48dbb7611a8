"""`meshpy inject` and `meshpy uninject`: stack files in, stack files out. Nothing else is touched."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from meshpy.cli.output import ask_format, print_json
from meshpy.errors import MeshpyError
from meshpy.inject import InjectOptions
from meshpy.inject import inject as inject_text
from meshpy.inject import uninject as uninject_text

__all__ = ["inject", "inject_options", "read_stack", "uninject"]

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.argument("file", metavar="STACK.yml", type=click.Path(path_type=Path, allow_dash=True))


def inject_options(command: Command) -> Command:
    """Give a command the options of an injection, passed to it as `options`."""

    @functools.wraps(command)
    def with_options(
        *args: Any,
        image: str | None,
        endpoint_mode: str | None,
        encrypt: bool | None,
        cache: bool | None,
        permissive: bool | None,
        assume: tuple[str, ...],
        **kwargs: Any,
    ) -> Any:
        options = InjectOptions(
            image=image,
            endpoint_mode=endpoint_mode,
            encrypted=encrypt,
            cache=cache,
            permissive=permissive,
            assume=_assumed(assume),
        )
        return command(*args, options=options, **kwargs)

    for option in (
        click.option(
            "--assume",
            multiple=True,
            metavar="SERVICE=PORTS",
            help='Ports the file does not show: --assume api=8080/http; "api=" listens on nothing.',
        ),
        click.option(
            "--permissive/--strict",
            default=None,
            help="While callers move: sidecars stand beside apps on their old networks.  [default: strict]",
        ),
        click.option(
            "--encrypt/--no-encrypt",
            default=None,
            help="Encrypt the hop between app and sidecar (needs ESP in the kernel).  [default: encrypt]",
        ),
        click.option(
            "--cache/--no-cache",
            default=None,
            help="Sidecars can start while the control plane is away, by a volume each.  [default: no-cache]",
        ),
        click.option(
            "--endpoint-mode",
            type=click.Choice(["vip", "dnsrr"]),
            help="Of the sidecars. dnsrr, with ports in host mode, where the kernel has no IP_VS.",
        ),
        click.option("--image", help="Of the sidecars.  [default: meshpy-proxy:0.1.0]"),
    ):
        with_options = option(with_options)
    return with_options  # type: ignore[return-value]  # wraps keeps the command's own parameters


def _assumed(words: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for word in words:
        service, equals, ports = word.partition("=")
        if not service or not equals:
            raise click.BadParameter(
                f"{word!r} is not SERVICE=PORTS, such as api=8080/http", param_hint="--assume"
            )
        found[service] = ports
    return found


def read_stack(file: Path) -> str:
    """The text of a stack file with its line ends as they are; `-` is standard input.

    Raises:
        MeshpyError: it is no UTF-8.
    """
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise MeshpyError(f"{file}:{line}: no UTF-8 text: {error.reason}") from error


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


@click.command()
@click.option("--stack", required=True, help="The name it will be deployed under; it is part of every name.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write what was done, as JSON."
)
@inject_options
@ask_format
@FILE
def inject(file: Path, stack: str, report: Path | None, options: InjectOptions, output: str) -> None:
    """Write STACK.yml with a sidecar for each service to standard output; `-` reads standard input.

    What was found out (ports and their evidence, services left out and why) goes to standard error.

    \b
    Examples:
      meshpy inject --stack shop stack.yml > stack.mesh.yml
      meshpy inject --stack shop --assume worker= --assume api=8080/http stack.yml > stack.mesh.yml
    """
    injected = inject_text(read_stack(file), stack=stack, file=str(file), options=options)
    if report is not None:
        report.write_text(json.dumps(injected.report.to_json(), indent=2) + "\n")
    if output == "json":
        print_json({"stack_file": injected.text, "report": injected.report.to_json()})
        return
    click.echo(injected.report.to_table(), err=True)
    _write(injected.text)


@click.command()
@ask_format
@FILE
def uninject(file: Path, output: str) -> None:
    """Write the file that `meshpy inject` was given to standard output, byte for byte.

    A file that was edited since is refused, with the place of every edit.
    """
    text = uninject_text(read_stack(file), str(file))
    if output == "json":
        print_json({"stack_file": text})
    else:
        _write(text)
