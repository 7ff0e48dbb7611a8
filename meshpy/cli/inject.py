"""`meshpy inject` and `meshpy uninject`: stack files in, stack files out. Nothing else is touched."""

from __future__ import annotations

import difflib
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from meshpy.cli.output import ask_format, print_json
from meshpy.cli.stack_source import StackSource, compose_file, read_stack
from meshpy.inject import Injected, InjectOptions
from meshpy.inject import uninject as uninject_text
from meshpy.inject.original import ROOT_KEY

__all__ = ["evidence_options", "inject", "inject_options", "uninject"]

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.argument("file", metavar="STACK.yml", type=click.Path(path_type=Path, allow_dash=True))
FILES = click.argument(
    "files",
    metavar="STACK.yml…",
    nargs=-1,
    type=click.Path(path_type=Path, allow_dash=True),
)
COMPOSED = compose_file(
    "composed", "A stack file, in the words of `docker stack deploy`; before those without an option."
)


def evidence_options(command: Command) -> Command:
    """Give a command what decides where ports are looked for when the file does not show them."""
    command = click.option("--interactive", is_flag=True, help="Ask for the ports that nothing shows.")(
        command
    )
    return click.option(
        "--images/--no-images",
        default=True,
        help="Ask engine and registry for the ports of images when nothing else shows them.",
    )(command)


_OPTIONS = (
    click.option(
        "--assume",
        multiple=True,
        metavar="SERVICE=PORTS",
        help='Ports the file does not show: --assume api=8080/http; "api=" listens on nothing.',
    ),
    click.option(
        "--outbound",
        type=click.Choice(["ALLOW_ANY", "REGISTRY_ONLY"]),
        help="Give apps a forward proxy to hosts outside of the mesh.  [default: none]",
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
)
"""Of an injection, the last first, as decorators are applied."""


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
        outbound: str | None,
        assume: tuple[str, ...],
        **kwargs: Any,
    ) -> Any:
        options = InjectOptions(
            image=image,
            endpoint_mode=endpoint_mode,
            encrypted=encrypt,
            cache=cache,
            permissive=permissive,
            outbound=outbound,
            assume=_assumed(assume),
        )
        return command(*args, options=options, **kwargs)

    for option in _OPTIONS:
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


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


@click.command()
@click.option("--stack", required=True, help="The name it will be deployed under; it is part of every name.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write what was done, as JSON."
)
@click.option("--diff", is_flag=True, help="Show what changes, not the whole file.")
@evidence_options
@inject_options
@ask_format
@COMPOSED
@FILES
def inject(
    files: tuple[Path, ...],
    composed: tuple[Path, ...],
    stack: str,
    report: Path | None,
    diff: bool,
    images: bool,
    interactive: bool,
    options: InjectOptions,
    output: str,
) -> None:
    """Write STACK.yml with a sidecar for each service to standard output; `-` reads standard input.

    Several files are merged first, as `docker stack deploy -c one -c two` merges them. What was found out
    (ports and their evidence, services left out and why) goes to standard error.

    \b
    Examples:
      meshpy inject --stack shop stack.yml > stack.mesh.yml
      meshpy inject --stack shop --assume worker= --assume api=8080/http stack.yml > stack.mesh.yml
      meshpy inject --stack shop --diff stack.yml prod.yml
    """
    if not (given := (*composed, *files)):
        raise click.UsageError(f"give the stack file: meshpy inject --stack {stack} stack.yml")
    source = StackSource.read(given)
    options = source.settled(stack, options, look_at_images=images, ask=interactive)
    injected = source.inject(stack, options)
    if report is not None:
        report.write_text(json.dumps(injected.report.to_json(), indent=2) + "\n")
    if output == "json":
        shown = {"diff": _diff(source, injected)} if diff else {"stack_file": injected.text}
        print_json({**shown, "report": injected.report.to_json()})
        return
    click.echo(injected.report.to_table(), err=True)
    _write(_coloured(_diff(source, injected)) if diff else injected.text)


def _diff(source: StackSource, injected: Injected) -> str:
    """What changes, without `x-meshpy`, in which the original is packed."""
    after = injected.text.splitlines(keepends=True)
    packed = next((at for at, line in enumerate(after) if line.startswith(f"{ROOT_KEY}:")), len(after))
    before = source.text.splitlines(keepends=True)
    lines = difflib.unified_diff(before, after[:packed], source.name, f"{source.name} (injected)")
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _coloured(diff: str) -> str:
    """Colours on a terminal; NO_COLOR and a pipe mean text."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return diff
    colours = {"+": "green", "-": "red", "@": "cyan"}
    return "".join(
        click.style(line, fg=colours.get(line[:1]), bold=line.startswith(("---", "+++")))
        for line in diff.splitlines(keepends=True)
    )


@click.command()
@ask_format
@FILE
def uninject(file: Path, output: str) -> None:
    """Write the file that `meshpy inject` was given to standard output, byte for byte.

    A file that was edited since is refused, with the place of every edit.

    \b
    Example:
      meshpy uninject stack.mesh.yml > stack.yml
    """
    text = uninject_text(read_stack(file), str(file))
    if output == "json":
        print_json({"stack_file": text})
    else:
        _write(text)
