"""The Engine API behind the docker command: what its subcommands do not show, or cannot set.

`docker system dial-stdio` joins its standard streams to the engine that `docker` points to, through whatever
context, TLS or ssh that takes; docker's own ssh contexts are built on it. A process per call.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from meshpy.cli.docker import DockerError

__all__ = ["EngineApi", "EngineRefused", "filters"]

STACK = "com.docker.stack.namespace"


class EngineRefused(DockerError):  # noqa: N818 - it says what happened
    """The engine answered with an error; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def filters(**wanted: str) -> dict[str, str]:
    """The `filters` parameter of a list, `label` and the like with one value each."""
    return {"filters": json.dumps({name: [value] for name, value in wanted.items()})}


@dataclass(frozen=True, slots=True)
class EngineApi:
    """Calls of the Engine API, each bounded in time. Paths carry no version: the engine's newest answers."""

    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Read.

        Raises:
            EngineRefused: it answered with an error.
            DockerError: there is no docker command, or no engine behind it.
        """
        return self._call("GET", path, query, None)

    def post(self, path: str, body: object, query: Mapping[str, str] | None = None) -> Any:
        """Create or change; raises as `get`."""
        return self._call("POST", path, query, body)

    def delete(self, path: str) -> None:
        """Remove; what is not there is removed already. Raises as `get`."""
        try:
            self._call("DELETE", path, None, None)
        except EngineRefused as refused:
            if refused.status != 404:
                raise

    def of_stack(self, kind: str, stack: str) -> list[dict[str, Any]]:
        """The services, networks, secrets, configs or tasks of a stack."""
        return list(self.get(f"/{kind}", filters(label=f"{STACK}={stack}")) or ())

    def _call(self, method: str, path: str, query: Mapping[str, str] | None, body: object) -> Any:
        program = shutil.which("docker")
        if program is None:
            raise DockerError(
                "the docker command is not installed here; install Docker's CLI, version 20.10 or newer"
            )
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(self.timeout_s)
            process = subprocess.Popen(  # noqa: S603 - arguments are a list, no shell
                [program, "system", "dial-stdio"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                env={**os.environ, **self.env},
            )
            with process:
                theirs.close()
                try:
                    answer = _exchange(ours, method, path, query, body)
                except (OSError, http.client.HTTPException) as error:
                    raise DockerError(self._why(process, error)) from error
                finally:
                    process.kill()
        return _read(method, path, *answer)

    def _why(self, process: subprocess.Popen[bytes], error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"the engine did not answer within {self.timeout_s:.0f} s"
        process.kill()
        told = (process.communicate()[1] or b"").decode(errors="replace").strip()
        return told or f"the connection to the engine broke: {error}"


def _exchange(
    sock: socket.socket, method: str, path: str, query: Mapping[str, str] | None, body: object
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("docker")
    connection.sock = sock
    target = quote(path) + (f"?{urlencode(query)}" if query else "")
    headers = {"Connection": "close", "Content-Type": "application/json"}
    connection.request(method, target, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    return response.status, response.read()


def _read(method: str, path: str, status: int, body: bytes) -> Any:
    try:
        value = json.loads(body) if body.strip() else None
    except ValueError:
        value = {"message": body.decode(errors="replace").strip()}
    if status >= 400:
        message = value.get("message", "") if isinstance(value, dict) else ""
        raise EngineRefused(status, message or f"{method} {path}: {status}")
    return value
