"""Child processes of the demo: started with a log each, ended by the pid that was noted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from meshpy.errors import MeshpyError

__all__ = ["Crew", "own_command"]

STOP_S = 12.0


def own_command(name: str) -> str:
    """The installed console script beside this interpreter, `meshpy-proxy` say."""
    return str(Path(sys.executable).with_name(name))


@dataclass(slots=True)
class Crew:
    """All processes that one demo started, in the order they were started."""

    logs: Path
    _members: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start one process in a session of its own, so that Ctrl-C reaches the demo alone.

        Raises:
            MeshpyError: the command cannot be started.
        """
        with (self.logs / f"{name}.log").open("wb") as log:
            try:
                process = subprocess.Popen(  # noqa: S603 - the demo runs the stack file's own commands
                    argv,
                    env={**_inherited(), **env},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise MeshpyError(f"{name} cannot be started: {error}") from error
        self._members.append((name, process))

    def check(self) -> None:
        """See that everyone is still there.

        Raises:
            MeshpyError: a process ended by itself; the message carries the end of its log.
        """
        for name, process in self._members:
            if process.poll() is not None:
                log = (self.logs / f"{name}.log").read_text(errors="replace")[-2000:]
                raise MeshpyError(f"{name} ended with code {process.returncode}; the end of its log:\n{log}")

    def stop(self) -> None:
        """End everyone, the last started first; who does not go within 12 s is killed."""
        for _, process in reversed(self._members):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for _, process in reversed(self._members):
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._members.clear()


def _inherited() -> dict[str, str]:
    """What a child needs of our environment; MESHPY_* of an operator's shell must not reach a sidecar."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MESHPY_")}
