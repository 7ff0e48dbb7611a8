"""The stack files of a command: read, merged, and what is looked up outside of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from meshpy.cli.outside_evidence import with_env_files, with_images
from meshpy.errors import DocumentError, MeshpyError
from meshpy.inject import Injected, InjectOptions, PortsUnknownError, inject
from meshpy.inject.merge import Merged, merge_files
from meshpy.inject.words import parse_ports

__all__ = ["StackSource", "compose_file", "read_stack"]

Command = TypeVar("Command", bound=Callable[..., Any])


def compose_file(name: str, text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """`-c, --compose-file`, the option of `docker stack deploy`, for a command that knows it as `name`."""
    return click.option(
        "-c",
        "--compose-file",
        name,
        required=required,
        multiple=True,
        type=click.Path(path_type=Path, allow_dash=True),
        help=text,
    )


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


@dataclass(frozen=True, slots=True)
class StackSource:
    """Args:
    folder: that of the first file, from which docker takes relative paths.
    merged: None when there is one file, whose text is untouched.
    """

    text: str
    name: str
    folder: Path
    merged: Merged | None = None

    @classmethod
    def read(cls, files: Sequence[Path]) -> StackSource:
        """Read the files; `-` is standard input, once.

        Raises:
            DocumentError: they cannot be merged.
            MeshpyError: one is no text.
        """
        if sum(str(file) == "-" for file in files) > 1:
            raise click.UsageError("standard input can be one of the files only")
        folder = files[0].resolve().parent if str(files[0]) != "-" else Path.cwd()
        if len(files) == 1:
            return cls(read_stack(files[0]), str(files[0]), folder)
        merged = merge_files([(str(file), read_stack(file)) for file in files])
        return cls(merged.text, merged.name, folder, merged)

    @contextmanager
    def placing(self) -> Iterator[None]:
        """Errors of the merged text name the file and line that the user wrote."""
        try:
            yield
        except DocumentError as error:
            if self.merged is None:
                raise
            raise self.merged.placed(error) from error

    def settled(
        self, stack: str, options: InjectOptions, *, look_at_images: bool = True, ask: bool = False
    ) -> InjectOptions:
        """The options with all that could be found out: env files, then images, then the user.

        Raises:
            DocumentError: the file is wrong, or ports are still unknown.
        """
        with self.placing():
            options = with_env_files(self.text, self.name, self.folder, stack, options)
            try:
                self._inject(stack, options)
            except PortsUnknownError as unknown:
                if look_at_images:
                    options = with_images(unknown.images, options, _tell)
            else:
                return options
            try:
                self._inject(stack, options)
            except PortsUnknownError as unknown:
                if not ask:
                    raise
                options = _asked(unknown, options)
                self._inject(stack, options)
            return options

    def inject(self, stack: str, options: InjectOptions) -> Injected:
        """Inject; raises as `meshpy.inject.inject`, errors at the user's own places."""
        with self.placing():
            return self._inject(stack, options)

    def _inject(self, stack: str, options: InjectOptions) -> Injected:
        return inject(self.text, stack=stack, file=self.name, options=options)


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _asked(unknown: PortsUnknownError, options: InjectOptions) -> InjectOptions:
    """Ask for each port, and say what to write so that nobody has to ask again."""
    said = {}
    for service, image in unknown.images.items():
        question = f"ports of `{service}` ({image or 'no image'}), as 8080/http; nothing if it calls only"
        said[service] = click.prompt(question, default="", show_default=False, value_proc=_ports, err=True)
    _tell("write this below the services' deploy.labels, and it will not be asked again:")
    for service, ports in said.items():
        _tell(f'  {service}: meshpy.ports: "{ports}"')
    return replace(options, assume={**options.assume, **said})


def _ports(text: str) -> str:
    try:
        parse_ports(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return text.strip()
