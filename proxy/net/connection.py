"""One connection to an upstream that speaks HTTP/1.1, kept in its host's pool between exchanges.

Hot file: a pooled connection saves 60 µs of a plaintext request and 860 µs of one over mTLS (PERFORMANCE.md),
so one object serves many exchanges and allocates nothing for any of them.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, Protocol, cast

from certs.errors import PeerRefused
from proxy.http.encode import encode_chunk, encode_last_chunk, encode_request_head
from proxy.http.events import End, Framing, Headers
from proxy.http.h1 import Event, ResponseParser
from proxy.http.head import RequestHead, ResponseHead
from proxy.http.hygiene import trailers_beside
from proxy.net.bulk import write_parts
from proxy.net.dial import LOST_AFTER_S, is_admitted, keep_alive
from proxy.net.tls import PeerCertificate

if TYPE_CHECKING:
    from proxy.net.host import Host
    from proxy.plan import Plan

__all__ = ["Client", "UpstreamConnection", "UpstreamHttp", "UpstreamSide"]

_HIGH_WATER_BYTES: Final = 64 * 1024
_CHUNKED: Final = Framing.CHUNKED


class Client(Protocol):
    """What an exchange is to the connection and the pool that serve it.

    Args:
        silent_retries: how many kept connections it found dead: it gets a fresh one then, if one can be made.
    """

    head: RequestHead
    plan: Plan | None
    extra: Headers
    drop: Collection[bytes]
    is_sent: bool
    silent_retries: int

    def on_connection(self, connection: UpstreamSide) -> None: ...
    def on_connect_failure(self, reason: str) -> None: ...
    def on_response(self, events: list[Event]) -> None: ...
    def on_whole_response(self, head: ResponseHead, data: bytes) -> None: ...
    def on_upstream_lost(self, reason: str, *, is_unsent: bool = False) -> None: ...
    def on_upstream_paused(self) -> None: ...
    def on_upstream_resumed(self) -> None: ...


class UpstreamSide(Protocol):
    """Who answers, as an exchange sees it: a connection of its own, or a stream of a shared one."""

    @property
    def is_reused(self) -> bool:
        """Whether the connection has served before: the peer may have closed it meanwhile."""

    def begin(self, client: Client, method: str) -> None:
        """Belong to an exchange until `finish` or `abort`."""

    def send(self, client: Client, parts: list[bytes | memoryview], end: End | None) -> None:
        """Write content, after the head when `client.is_sent` is False, before the end when it is known."""

    def finish(self, *, is_reusable: bool) -> None:
        """The response is complete."""

    def abort(self) -> None:
        """Give the exchange up; its client is told nothing more."""

    @property
    def held_bytes(self) -> int:
        """What waits to be taken by the peer."""

    def pause(self) -> None:
        """Take no more of the response for now."""

    def resume(self) -> None:
        """Go on."""


class UpstreamHttp:
    """A `Dialed` in all but its class (see `downstream.life`): a connection to an upstream that speaks HTTP.

    Args:
        admit: judges the TLS peer; None for plaintext.
        generation: of the credentials that it was dialled with.
        is_retired: no further exchange may have it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self.loop = loop
        self.admit: Callable[[ssl.SSLObject], PeerCertificate] | None = None
        self.certificate: PeerCertificate | None = None
        self.refusal: PeerRefused | None = None
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.served = 0
        self.opened_at = self.idle_since = now
        self.generation = 0
        self.is_open = False
        self.is_retired = False

    def eof_received(self) -> bool:
        """The peer sends no more; False ends the connection."""
        return False


class UpstreamConnection(UpstreamHttp):
    """Invariants: `client` is set while an exchange owns it; in the pool's `idle` list it is None."""

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, loop.time())
        self.host = host
        self.parser = ResponseParser()
        self.client: Client | None = None
        self._is_chunked = False
        self._is_behind = self._is_paused = False
        self._poll: select.poll | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not is_admitted(self, transport):
            return
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self.is_open = True
        keep_alive(transport, self.host.upstream.cluster.pool, LOST_AFTER_S)

    def data_received(self, data: bytes) -> None:
        client = self.client
        if client is None:
            # Bytes that nobody asked for would become the answer to the next request.
            self.abort()
            return
        read = self.parser.read(data)
        if type(read) is list:
            client.on_response(read)
        else:
            client.on_whole_response(read, data)  # type: ignore[arg-type] # mypy does not narrow by `type`

    def eof_received(self) -> bool:
        client = self.client
        if client is not None:
            events = self.parser.feed_eof()
            # An end within a message is a lost connection, told by `connection_lost`.
            if events and type(events[0]) is End:
                client.on_response(events)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        was_open, self.is_open = self.is_open, False
        if was_open:
            self.host.forget(self)
        client, self.client = self.client, None
        if client is not None:
            client.on_upstream_lost("connection reset" if exc is not None else "connection termination")

    def pause_writing(self) -> None:
        self._is_behind = True
        if self.client is not None:
            self.client.on_upstream_paused()

    def resume_writing(self) -> None:
        self._is_behind = False
        if self.client is not None:
            self.client.on_upstream_resumed()

    @property
    def is_reused(self) -> bool:
        return self.served > 1

    @property
    def held_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def is_quiet(self) -> bool:
        """Whether nothing has come while it was idle, not even its end.

        The kernel may know that the peer has closed before the loop has told: a request that must not be sent
        twice would be lost there (Istio's `reset-before-request`, here before the first byte is written).
        """
        if self._poll is None:
            sock = self.transport.get_extra_info("socket")
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)
        return not self._poll.poll(0)

    def begin(self, client: Client, method: str) -> None:
        self.client = client
        self.served += 1
        self._is_chunked = client.head.framing is _CHUNKED
        self.parser.begin(method)

    def send(self, client: Client, parts: list[bytes | memoryview], end: End | None) -> None:
        if self._is_chunked:
            parts = [encode_chunk(data) for data in parts]
            if end is not None:
                parts.append(encode_last_chunk(end.trailers and trailers_beside(client.drop, end.trailers)))
        if not client.is_sent:
            head = _encode_head(client)
            if parts:
                write_parts(self.transport, (head, *parts))
            else:
                self.transport.write(head)
        elif parts:
            write_parts(self.transport, parts)

    def finish(self, *, is_reusable: bool) -> None:
        if is_reusable and self.is_open and not self._is_behind:
            if self._is_paused:
                # By a client that has yet to take the end of this answer: the next one is another's.
                self.resume()
            self.host.release(self)
        else:
            self.abort()

    def pause(self) -> None:
        self._is_paused = True
        self.transport.pause_reading()

    def resume(self) -> None:
        self._is_paused = False
        self.transport.resume_reading()

    def abort(self) -> None:
        """Close at once; its client is told nothing more."""
        self.client = None
        self.transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        self.client = None
        self.transport.close()


def _encode_head(client: Client) -> bytes:
    head, plan = client.head, client.plan
    assert plan is not None  # noqa: S101 - only an exchange with a plan has tries
    return encode_request_head(
        head,
        client.extra,
        target=plan.target,
        host=plan.request_ops.host or plan.host,
        drop=client.drop,
        upgrade=head.upgrade is not None,
    )
