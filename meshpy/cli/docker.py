"""The docker command as a library: it knows the user's context, certificates and ssh tunnels."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshpy.errors import MeshpyError

__all__ = ["Docker", "DockerError"]


class DockerError(MeshpyError):
    """The docker command is absent, or failed; the message is its own."""


@dataclass(frozen=True, slots=True)
class Docker:
    """Calls of the docker CLI, each bounded in time.

    Args:
        env: added to the inherited environment.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 120.0

    def run(self, *args: str, stdin: str | None = None, cwd: Path | None = None) -> str:
        """Run `docker ARGS` and return what it printed on stdout.

        Raises:
            DockerError: it is not installed, took too long, or ended with another code than 0.
        """
        import os  # noqa: PLC0415 - the environment is read at the call, not at import

        program = shutil.which("docker")
        if program is None:
            raise DockerError(
                "the docker command is not installed here; install Docker's CLI, version 20.10 or newer"
            )
        try:
            done = subprocess.run(  # noqa: S603 - arguments are a list, no shell
                [program, *args],
                input=stdin,
                cwd=cwd,
                env={**os.environ, **self.env},
                capture_output=True,
                text=True,
                timeout=self.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DockerError(f"docker {args[0]}: no answer within {self.timeout_s:.0f} s") from error
        if done.returncode != 0:
            raise DockerError(f"docker {' '.join(args[:2])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def rows(self, *args: str) -> Iterator[Mapping[str, Any]]:
        """The JSON lines that `docker ARGS --format '{{json .}}'` prints."""
        for line in self.run(*args, "--format", "{{json .}}").splitlines():
            yield json.loads(line)

    def names(self, kind: str) -> frozenset[str]:
        """The names of all networks, secrets or configs."""
        return frozenset(row["Name"] for row in self.rows(kind, "ls"))

    def create(self, kind: str, name: str, data: str, labels: Mapping[str, str]) -> None:
        """Make a secret or config of that content.

        Raises:
            DockerError: the name is taken, the content too large, or this is no manager.
        """
        words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        self.run(kind, "create", *words, name, "-", stdin=data)

    def require_manager(self) -> None:
        """See that the engine is a Swarm manager.

        Raises:
            DockerError: it is not, with what to do.
        """
        if self.run("info", "--format", "{{.Swarm.ControlAvailable}}").strip() != "true":
            raise DockerError(
                "this engine is no Swarm manager: run `docker swarm init`, or `docker context use` a manager"
            )
