"""A folder of policy files, looked at as a whole: what counts as one, and one consistent state of all.

Editors and version control leave other files beside the ones that are meant (`.a.yaml.swp`, `a.yaml~`,
`#a.yaml#`, `.#a.yaml`, `.git/`): a policy file ends in `.yaml` or `.yml`, and no part of its path begins with
a dot or `#`. Its name in problems is its path below the folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from control_plane.store.revisions import Document

__all__ = ["BeingWritten", "FolderProblem", "State", "look", "read"]

SUFFIXES = (".yaml", ".yml")
HIDDEN = (".", "#")
MAX_FILES = 2_000
MAX_BYTES = 4 * 1024 * 1024
"""In all; the operator API takes as much."""


class FolderProblem(Exception):  # noqa: N818 - told as it stands, and never leaves the store
    """The folder is in no state that could be taken; the message names the file."""


class BeingWritten(FolderProblem):
    """A file changed while it was read; it is looked at again."""


@dataclass(frozen=True, slots=True)
class State:
    """Which policy files there are, and what tells that one was written: (time, size, inode) by path.

    Args:
        root: the folder with its symbolic links followed; a checkout may be swapped behind one.
    """

    root: Path
    files: Mapping[Path, tuple[int, int, int]]


def look(folder: Path) -> State:
    """The state now, by the entries alone.

    Raises:
        FolderProblem: it is missing, cannot be listed, holds too much, or a link in it leads out of it.
    """
    try:
        root = folder.resolve(strict=True)
        files = {path: _stamp(root, path) for path in sorted(_policy_files(root))}
    except OSError as error:
        raise FolderProblem(f"{error.filename or folder}: cannot be read: {error.strerror}") from error
    if len(files) > MAX_FILES or sum(size for _, size, _ in files.values()) > MAX_BYTES:
        raise FolderProblem(f"{folder}: holds more than {MAX_FILES} policy files, or {MAX_BYTES} bytes")
    return State(root, files)


def read(state: State) -> tuple[Document, ...]:
    """The files of a state.

    Raises:
        BeingWritten: one was written since `look`.
        FolderProblem: one cannot be read, or is no UTF-8.
    """
    documents = []
    for path, stamp in state.files.items():
        name = path.relative_to(state.root).as_posix()
        try:
            text = path.read_bytes().decode("utf-8")
            if _stamp(state.root, path) != stamp:
                raise BeingWritten(f"{name}: is being written")
        except OSError as error:
            raise FolderProblem(f"{name}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise FolderProblem(f"{name}:{line}: is not UTF-8 ({error.reason})") from error
        documents.append(Document(name, text))
    return tuple(documents)


def _policy_files(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        for name in names:
            if name.endswith(SUFFIXES) and not name.startswith(HIDDEN):
                yield Path(folder, name)


def _stamp(root: Path, path: Path) -> tuple[int, int, int]:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise FolderProblem(f"{path.relative_to(root).as_posix()}: leads out of the folder; copy it there")
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
