"""Active health checks: each caller asks each endpoint of a cluster, and leaves out who does not answer well.

A check travels the road of a request: over a connection of the pool, as this workload, judged by the callee's
policies. What says nothing of the endpoint (a limit of the pool that is reached) is no result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import cast

from meshpy.model.endpoint import Transport
from meshpy.model.resilience import CheckProtocol, HealthCheck
from proxy.decide.health import grpc_request, is_serving, note
from proxy.http.events import END, Body, End, Headers
from proxy.http.h1 import Event, RequestParser
from proxy.http.head import RequestHead, ResponseHead
from proxy.net.connection import UpstreamSide
from proxy.net.dial import Dialed, DialError
from proxy.net.host import Host
from proxy.net.pool import Surroundings, Upstream
from proxy.net.tls import ALPN_HTTP, ALPN_TCP
from proxy.plan import Plan

__all__ = ["HealthChecks"]

_log = logging.getLogger("meshpy.proxy")

_AT_ONCE = 32
_SPREAD_S = 1.0
_JITTER = 0.1
_KNOCK_S = 0.25
"""How long an mTLS connection must live to count: a sidecar whose app is gone closes it at once."""
_MAX_CONTENT_BYTES = 64 * 1024


class HealthChecks:
    """The checks of all clusters that ask for them, one task a cluster."""

    def __init__(self, own: Surroundings) -> None:
        self._own = own
        self._running: dict[Upstream, tuple[HealthCheck, asyncio.Task[None]]] = {}

    def follow(self, live: Mapping[str, Upstream]) -> None:
        """Check what the clusters of now ask for, and nothing else."""
        wanted = {each: each.cluster.health_check for each in live.values() if each.cluster.health_check}
        for upstream, (check, task) in list(self._running.items()):
            if wanted.get(upstream) != check:
                task.cancel()
                del self._running[upstream]
        for upstream, check in wanted.items():
            if upstream not in self._running and check is not None:
                task = self._own.loop.create_task(self._watch(upstream, check))
                self._own.own(task)
                self._running[upstream] = (check, task)

    async def _watch(self, upstream: Upstream, check: HealthCheck) -> None:
        own = self._own
        await asyncio.sleep(own.draw() * min(_SPREAD_S, check.interval_s))
        room = asyncio.Semaphore(_AT_ONCE)
        while True:
            began = own.loop.time()
            async with asyncio.TaskGroup() as group:
                for host in tuple(upstream.hosts):
                    group.create_task(self._check(upstream, host, check, room))
            pause_s = check.interval_s * (1.0 + _JITTER * (own.draw() - 0.5)) - (own.loop.time() - began)
            await asyncio.sleep(max(_JITTER, pause_s))

    async def _check(
        self, upstream: Upstream, host: Host, check: HealthCheck, room: asyncio.Semaphore
    ) -> None:
        async with room:
            problem = await _ask(upstream, host, check)
        if problem is None or host not in upstream.hosts:
            return
        upstream.stats.health_checks["failure" if problem else "success"] += 1
        if not note(host.health, check, is_good=not problem):
            return
        if not problem:
            host.joined_at = self._own.loop.time()
        upstream.refresh()
        state = f"is left out: {problem}" if problem else "is back"
        _log.warning("health check: %s of %s %s", host.name, upstream.cluster.name, state)


async def _ask(upstream: Upstream, host: Host, check: HealthCheck) -> str | None:
    """What is wrong with an endpoint, empty when nothing is; None when nothing could be learnt."""
    if check.protocol is CheckProtocol.TCP:
        return await _knock(upstream, host, check)
    problem = await _Probe(upstream, host, check).result()
    # A connection of the pool may have been closed while it was idle: that is no word on its endpoint.
    return await _Probe(upstream, host, check, 1).result() if problem == _STALE else problem


async def _knock(upstream: Upstream, host: Host, check: HealthCheck) -> str:
    cluster = upstream.cluster
    alpn = ALPN_HTTP if cluster.protocol.is_http else ALPN_TCP
    try:
        async with asyncio.timeout(check.timeout_s):
            visit = await upstream.own.dialer.dial(cluster, host.endpoint, _Visit, alpn=alpn)
            try:
                if cluster.transport is Transport.MTLS:
                    await asyncio.wait([visit.ended], timeout=_KNOCK_S)
                return "the connection was closed at once" if visit.ended.done() else ""
            finally:
                visit.transport.abort()
    except TimeoutError:
        return f"no connection within {check.timeout_s:g} s"
    except DialError as error:
        return str(error)


class _Visit(Dialed):
    """A connection that sends nothing."""

    def __init__(self) -> None:
        self.transport = cast("asyncio.Transport", None)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.is_admitted(transport):
            self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        if not self.ended.done():
            self.ended.set_result(None)


_STALE = "stale"


class _Probe:
    """One request of a check; a Client of the pool, as an exchange is."""

    def __init__(self, upstream: Upstream, host: Host, check: HealthCheck, silent_retries: int = 0) -> None:
        self.silent_retries = silent_retries
        is_grpc = check.protocol is CheckProtocol.GRPC
        name = upstream.cluster.name.rpartition("|")[2] or "health"
        content = grpc_request(check.service) if is_grpc else b""
        self.head = _head_of(check, name, len(content))
        self.plan: Plan | None = Plan(upstream, name)
        self.extra: Headers = []
        self.drop: Collection[bytes] = ()
        self.is_sent = False
        self._check = check
        self._host = host
        self._body: list[bytes | memoryview] = [content] if content else []
        self._connection: UpstreamSide | None = None
        self._result: asyncio.Future[str | None] = upstream.own.loop.create_future()
        self._response: ResponseHead | None = None
        self._content = b""

    async def result(self) -> str | None:
        """As `_ask`; the connection is given back."""
        host = self._host
        try:
            connection = host.acquire(self)
        except OverflowError:
            return None
        if connection is not None:
            self.on_connection(connection)
        try:
            async with asyncio.timeout(self._check.timeout_s):
                return await self._result
        except TimeoutError:
            return f"no answer within {self._check.timeout_s:g} s" if self.is_sent else None
        finally:
            held, self._connection = self._connection, None
            if held is not None:
                held.abort()
            else:
                host.give_up(self)

    def _finish(self, problem: str | None) -> None:
        if not self._result.done():
            self._result.set_result(problem)

    def on_connection(self, connection: UpstreamSide) -> None:
        self._connection = connection
        connection.begin(self, self.head.method)
        connection.send(self, self._body, End())
        self.is_sent = True

    def on_connect_failure(self, reason: str) -> None:
        self._finish(reason)

    def on_whole_response(self, head: ResponseHead, data: bytes) -> None:
        self.on_response([head, Body(data[len(data) - head.content_length :]), END])

    def on_response(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, ResponseHead):
                if not event.is_interim:
                    self._response = event
            elif isinstance(event, Body):
                if len(self._content) < _MAX_CONTENT_BYTES:
                    self._content += event.data
            elif isinstance(event, End) and self._response is not None:
                self._judge(self._response, event)
            else:
                self._finish("the answer is no HTTP")

    def _judge(self, head: ResponseHead, end: End) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish(is_reusable=head.keep_alive)
        if self._check.protocol is CheckProtocol.GRPC:
            status = dict(end.trailers).get(b"grpc-status") or head.fields.get(b"grpc-status")
            is_good = is_serving(self._content, status)
            self._finish("" if is_good else f"it is not serving (grpc-status {(status or b'?').decode()})")
        else:
            self._finish("" if head.status in self._check.statuses else f"it answered {head.status}")

    def on_upstream_lost(self, reason: str, *, is_unsent: bool = False) -> None:
        connection, self._connection = self._connection, None
        is_stale = is_unsent or (connection is not None and connection.is_reused)
        self._finish(_STALE if is_stale else reason)

    def on_upstream_paused(self) -> None:
        """What a check sends fits into any buffer."""

    def on_upstream_resumed(self) -> None:
        """See `on_upstream_paused`."""


def _head_of(check: HealthCheck, authority: str, length: int) -> RequestHead:
    if check.protocol is CheckProtocol.GRPC:
        fields = f"content-type: application/grpc\r\nte: trailers\r\ncontent-length: {length}\r\n"
        line = "POST /grpc.health.v1.Health/Check HTTP/1.1"
    else:
        fields, line = "", f"GET {check.path} HTTP/1.1"
    text = f"{line}\r\nhost: {authority}\r\nuser-agent: meshpy-health-check\r\n{fields}\r\n"
    head = RequestParser().feed(text.encode("latin-1"))[0]
    assert isinstance(head, RequestHead)  # noqa: S101 - the policy's reader has checked the path
    return head
