"""A WebSocket to the control plane (RFC 6455): texts both ways, pings, and a close that comes to an end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Self

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from meshpy.errors import MeshpyError
from proxy.replicas import Link

__all__ = ["WebSocket", "WebSocketError"]

_READ_BYTES = 256 * 1024
_MAX_CHARS = 64 * 1024 * 1024
_HEARTBEAT_S = 10.0
_PONG_S = 5.0
_CLOSING_S = 2.0
_NORMAL, _TOO_BIG = 1000, 1009


class WebSocketError(MeshpyError):
    """The control plane opens none, is silent, or breaks its rules."""


class WebSocket:
    """One that is open. Whoever opened it closes it."""

    def __init__(self, link: Link, speech: WSConnection) -> None:
        self._reader, self._writer = link
        self._speech = speech
        self._is_closing = False

    @classmethod
    async def open(cls, link: Link, host: str, path: str) -> Self:
        """Ask for one on a connection, which ends with it, and where there is none.

        Raises:
            WebSocketError: the answer is another.
            OSError: the connection broke.
        """
        made = cls(link, WSConnection(ConnectionType.CLIENT))
        try:
            made._say(Request(host=host, target=path))
            await made._opened()
        except BaseException:
            made._writer.transport.abort()
            raise
        return made

    async def _opened(self) -> None:
        """Read until it is; what comes with that answer waits in `_speech`."""
        while data := await self._reader.read(_READ_BYTES):
            for event in self._heard(data):
                if isinstance(event, AcceptConnection):
                    return
                if isinstance(event, RejectConnection):
                    raise WebSocketError(f"the control plane opens no stream: status {event.status_code}")
        raise WebSocketError("the control plane ended the connection, it opened no stream")

    async def texts(self) -> AsyncGenerator[str, None]:
        """What the other side says, until either side closes; pings are answered meanwhile.

        Raises:
            WebSocketError: it answers no ping, or breaks the rules.
            OSError: the connection broke.
        """
        parts: list[str] = []
        chars = 0
        events = self._heard(None)
        while True:
            for event in events:
                if isinstance(event, TextMessage):
                    parts.append(event.data)
                    chars += len(event.data)
                    if chars > _MAX_CHARS:
                        self._end(_TOO_BIG, "too long")
                        raise WebSocketError(f"a text of more than {_MAX_CHARS} characters")
                    if event.message_finished:
                        yield "".join(parts)
                        parts, chars = [], 0
                elif isinstance(event, Ping):
                    self._say(event.response())
                elif isinstance(event, CloseConnection):
                    self._end(event.code, event.reason or "")
                    return
            data = await self._read()
            if not data:
                return
            events = self._heard(data)

    async def send_json(self, value: object) -> None:
        """Say something; nothing once the end has begun.

        Raises:
            OSError: the connection broke.
        """
        if not self._is_closing:
            self._say(TextMessage(json.dumps(value)))
            await self._writer.drain()

    def begin_close(self, reason: str) -> None:
        """Say that we go. `texts` ends when the other side has said so too, or after two seconds."""
        self._end(_NORMAL, reason)

    def close(self) -> None:
        """Let the connection go."""
        self._end(_NORMAL, "")
        self._writer.close()

    def _end(self, code: int, reason: str) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._say(CloseConnection(code, reason))
            asyncio.get_running_loop().call_later(_CLOSING_S, self._writer.transport.abort)

    def _say(self, event: Event) -> None:
        with contextlib.suppress(LocalProtocolError):  # the other side has closed
            self._writer.write(self._speech.send(event))

    def _heard(self, data: bytes | None) -> Iterator[Event]:
        try:
            if data:
                self._speech.receive_data(data)
            yield from self._speech.events()
        except (RemoteProtocolError, LocalProtocolError) as error:
            raise WebSocketError(f"the control plane speaks no WebSocket: {error}") from error

    async def _read(self) -> bytes:
        """Some bytes; none at the end. Who is silent is asked whether it is there."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEARTBEAT_S):
                return await self._reader.read(_READ_BYTES)
        self._say(Ping())
        try:
            async with asyncio.timeout(_PONG_S):
                return await self._reader.read(_READ_BYTES)
        except TimeoutError:
            raise WebSocketError(f"the control plane has answered no ping for {_PONG_S:g} s") from None
