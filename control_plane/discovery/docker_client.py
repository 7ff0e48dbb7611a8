"""The only file that speaks to a Docker engine (aiodocker); its errors leave as `DiscoveryError`."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiodocker
import aiohttp

from control_plane.discovery.api_version import spoken
from control_plane.discovery.docker_json import Answers
from control_plane.errors import DiscoveryError

__all__ = ["DockerClient"]

READ_S = 10.0
UNKNOWN = "auto"
RUNNING = {"desired-state": ["running"]}
WATCHED = ["service", "network", "node"]


class DockerClient:
    """What is asked of one engine; it must be a manager. Configs alone are also written.

    Args:
        host: `unix:///var/run/docker.sock`, `tcp://…`; None takes DOCKER_HOST, then the usual socket.
    """

    def __init__(self, host: str | None = None) -> None:
        self._host = host
        self._docker: aiodocker.Docker | None = None

    async def everything(self) -> Answers:
        """The four lists, asked for side by side.

        Raises:
            DiscoveryError: any of them failed or did not come within 10 s.
        """
        async with self._engine() as docker:
            services, tasks, nodes, networks = await asyncio.gather(
                docker.services.list(),
                docker.tasks.list(filters=RUNNING),
                docker.nodes.list(),
                docker.networks.list(filters={"scope": ["swarm"]}),
            )
        return Answers(_items(services), _items(tasks), _items(nodes), _items(networks))

    async def tasks(self) -> Sequence[Mapping[str, Any]]:
        """The tasks that are meant to run.

        Raises:
            DiscoveryError: as `everything`.
        """
        async with self._engine() as docker:
            return _items(await docker.tasks.list(filters=RUNNING))

    async def configs(self, label: str) -> Sequence[Mapping[str, Any]]:
        """The configs with a label, their data included.

        Raises:
            DiscoveryError: as `everything`.
        """
        async with self._engine() as docker:
            return _items(await docker.configs.list(filters={"label": [label]}))

    async def config(self, name: str) -> Mapping[str, Any] | None:
        """One config by its whole name, None when there is none.

        Raises:
            DiscoveryError: as `everything`.
        """
        async with self._engine() as docker:
            try:
                return await docker.configs.inspect(name)
            except aiodocker.DockerError as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    return None
                raise

    async def create_config(self, name: str, data: bytes, labels: Mapping[str, str]) -> bool:
        """Create a config; False when the name is taken, by whomever.

        Raises:
            DiscoveryError: as `everything`; whether it was created is not known then.
        """
        async with self._engine() as docker:
            try:
                await docker.configs.create(
                    name, base64.b64encode(data).decode("ascii"), b64=True, labels=labels
                )
            except aiodocker.DockerError as error:
                if error.status == HTTPStatus.CONFLICT:
                    return False
                raise
        return True

    async def relabel_config(self, config: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
        """Replace the labels of a config, as it was read; False when another changed it meanwhile.

        Raises:
            DiscoveryError: as `everything`.
        """
        async with self._engine() as docker:
            try:
                await docker.configs.update(config["ID"], str(config["Version"]["Index"]), labels=labels)
            except aiodocker.DockerError as error:
                if error.status == HTTPStatus.NOT_FOUND or "out of sequence" in str(error):
                    return False
                raise
        return True

    async def remove_config(self, name: str) -> None:
        """Remove a config that no service uses; one that is gone stays so.

        Raises:
            DiscoveryError: as `everything`.
        """
        async with self._engine() as docker:
            try:
                await docker.configs.delete(name)
            except aiodocker.DockerError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` at every event that may change the lists, until the stream ends. Tasks send none.

        Raises:
            DiscoveryError: the stream could not be opened or broke.
        """
        async with self._engine():
            """Speak its version, and fail in time where it does not answer."""
        try:
            docker = self._client()
            channel = docker.events.subscribe(create_task=False)  # type: ignore[no-untyped-call]
            filters = json.dumps({"type": WATCHED, "scope": ["swarm"]})
            async with asyncio.TaskGroup() as group:
                group.create_task(docker.events.run(filters=filters))
                while await channel.get() is not None:
                    changed()
        except* (aiodocker.DockerError, aiohttp.ClientError, OSError, ValueError) as errors:
            raise DiscoveryError(f"the engine's event stream broke: {errors.exceptions[0]}") from errors

    async def close(self) -> None:
        if self._docker is not None:
            docker, self._docker = self._docker, None
            await docker.close()

    async def _negotiate(self, docker: aiodocker.Docker) -> None:
        """Ask which versions of its API the engine has; after a failure again, as it may be another one."""
        if docker.api_version == UNKNOWN:
            told = await docker._query_json("version", versioned_api=False)
            docker.api_version = f"v{spoken(told)}"

    def _client(self) -> aiodocker.Docker:
        if self._docker is None:
            try:
                self._docker = aiodocker.Docker(url=self._host, api_version=UNKNOWN)
            except (AssertionError, ValueError, OSError) as error:
                raise DiscoveryError("no Docker engine: set DOCKER_HOST or mount its socket") from error
        return self._docker

    @asynccontextmanager
    async def _engine(self) -> AsyncIterator[aiodocker.Docker]:
        try:
            async with asyncio.timeout(READ_S):
                docker = self._client()
                await self._negotiate(docker)
                yield docker
        except TimeoutError as error:
            self._forget_version()
            raise DiscoveryError(f"the engine did not answer within {READ_S:.0f} s") from error
        except (aiodocker.DockerError, aiohttp.ClientError, OSError, ValueError) as error:
            self._forget_version()
            raise DiscoveryError(f"the engine cannot be read: {error}") from error

    def _forget_version(self) -> None:
        if self._docker is not None:
            self._docker.api_version = UNKNOWN


def _items(answer: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(answer, list):
        raise DiscoveryError(f"the engine answered {type(answer).__name__} where a list was expected")
    return answer
