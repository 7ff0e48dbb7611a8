"""The forward proxy of an app: outside hosts that no alias can name, by CONNECT and absolute URLs.

It listens on the app's pod network alone. A host of the registry (ServiceEntry, `meshpy.egress`) is handed
to its own listener, where routes, policies and statistics are; any other goes out under ALLOW_ANY, or when it
matches a pattern of `meshpy.egress`, after the egress policies were asked by name and addresses. Nothing on a
network of the sidecar itself can be reached: not the mesh, not a pod network, not the engine's bridge.

After one request a connection belongs to its destination, as `Connection: close` says both ways.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from meshpy.engine.verdict import Verdict
from meshpy.model.gateway import outside_sni
from proxy.access_log import Line
from proxy.config import Compiled
from proxy.denial import decider
from proxy.net.addresses import AddressError
from proxy.net.dial import DialError
from proxy.net.dialed_stream import dial_streams
from proxy.net.host import Host
from proxy.net.outside import local_networks, reachable
from proxy.outside_head import MAX_HEAD, Asked, HeadRefusedError, read_asked
from proxy.outside_policy import PROXY_PORT, ForwardSettings
from proxy.sidecar import Sidecar
from proxy.telemetry import EdgeKey
from proxy.tunnel_line import log_tunnel

__all__ = ["ForwardProxy"]

_log = logging.getLogger("meshpy.proxy")

_LOOK_S = 0.5
_HEAD_S = 10.0
_DIAL_S = 5.0
_IDLE_S = 3600.0
_CHUNK = 64 * 1024
_MAX_OPEN = 1024
_PASSTHROUGH, _BLACK_HOLE = "PassthroughCluster", "BlackHoleCluster"
"""Istio's names for what the registry does not know."""


class _RefusedError(Exception):
    """What the app is answered, and what the log says."""

    def __init__(self, status: str, text: str, flags: str, verdict: Verdict | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.flags, self.verdict = status, text, flags, verdict


@dataclass(slots=True)
class _Exchange:
    """One connection of the app, for the log."""

    peer: str
    started: float = field(default_factory=time.time)
    asked: Asked | None = None
    cluster: str = _BLACK_HOLE
    upstream: str = ""
    received: int = 0
    sent: int = 0


class ForwardProxy:
    """Open while the sidecar is ready; its connections end with it."""

    def __init__(self, sidecar: Sidecar, settings: ForwardSettings) -> None:
        self._sidecar, self._settings = sidecar, settings
        self._open: set[asyncio.Task[object]] = set()

    async def run(self) -> None:
        """Listen until cancelled."""
        server: asyncio.Server | None = None
        try:
            while True:
                if self._sidecar.is_ready and server is None:
                    server = await self._listen()
                elif (
                    not self._sidecar.is_ready and server is not None and not self._sidecar.draining.is_set()
                ):
                    server.close()
                    server = None
                    self._cut()
                await asyncio.sleep(_LOOK_S)
        finally:
            if server is not None:
                server.close()
            self._cut()

    async def _listen(self) -> asyncio.Server | None:
        try:
            address = self._sidecar.addresses.resolve(self._settings.bind)
            return await asyncio.start_server(
                self._serve, address, self._settings.port or PROXY_PORT, limit=MAX_HEAD
            )
        except (AddressError, OSError) as error:
            _log.warning("the forward proxy cannot listen: %s", error)
            return None

    def _cut(self) -> None:
        for task in self._open:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The guard of one connection."""
        task = asyncio.current_task()
        if task is None:  # asyncio runs this as one
            return
        self._open.add(task)
        peer = writer.get_extra_info("peername")
        exchange = _Exchange(f"{peer[0]}:{peer[1]}" if peer else "")
        refused: _RefusedError | None = None
        try:
            await self._exchange(reader, writer, exchange)
        except _RefusedError as error:
            refused = error
            body = f"{error.text}\n".encode()
            head = f"HTTP/1.1 {error.status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(task)
            self._account(exchange, refused)
            with suppress(OSError):
                writer.close()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, exchange: _Exchange
    ) -> None:
        try:
            async with asyncio.timeout(_HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            asked = exchange.asked = read_asked(head)
        except (HeadRefusedError, asyncio.LimitOverrunError) as error:
            raise _RefusedError("400 Bad Request", f"meshpy forward proxy: {error}", "DPE") from error
        there, back = await self._dial(asked, exchange)
        try:
            if asked.is_connect:
                writer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
            else:
                back.write(asked.forwarded)
                exchange.received += len(asked.forwarded)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, back, exchange, is_upward=True))
                group.create_task(_pump(there, writer, exchange, is_upward=False))
        except* (OSError, TimeoutError):
            pass
        finally:
            with suppress(OSError):
                back.close()

    async def _dial(
        self, asked: Asked, exchange: _Exchange
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to what was asked for, or refuse."""
        live = self._sidecar.live
        if len(self._open) > _MAX_OPEN:
            raise _RefusedError("503 Service Unavailable", "too many connections", "UO")
        if live is None:
            raise _RefusedError("503 Service Unavailable", "the sidecar is not ready", "UC")
        compiled = live.value
        if (own := self._own_listener(compiled, asked)) is not None:
            addresses: Sequence[str] = [own]
            exchange.cluster = f"outbound|{asked.port}||{asked.host}"
        elif compiled.snapshot.egress_gateway:
            exchange.cluster = _PASSTHROUGH
            return await self._through_gateway(compiled, asked, exchange)
        else:
            addresses = await self._outside(compiled, asked)
            exchange.cluster = _PASSTHROUGH
        for address in addresses:
            try:
                async with asyncio.timeout(_DIAL_S):
                    made = await asyncio.open_connection(address, asked.port)
            except (OSError, TimeoutError):
                continue
            exchange.upstream = f"{address}:{asked.port}"
            return made
        raise _RefusedError("502 Bad Gateway", f"{asked.host}:{asked.port} cannot be reached", "UF")

    def _own_listener(self, compiled: Compiled, asked: Asked) -> str | None:
        """Our own address where a host of the registry is served, by its name and port."""
        for (bind, port), target in compiled.outbound.items():
            if port != asked.port:
                continue
            listener = target.listener
            domains = {domain for each in listener.virtual_hosts for domain in each.domains}
            names = {name for route in listener.tcp_routes() for name in (route.host, *route.sni_hosts)}
            if asked.host in domains | names:
                return self._sidecar.addresses.resolve(bind)
        return None

    async def _outside(self, compiled: Compiled, asked: Asked) -> Sequence[str]:
        """The addresses of a host that the registry does not know, when it may be called."""
        self._check_registry(asked)
        try:
            async with asyncio.timeout(_DIAL_S):
                found = await reachable(asyncio.get_running_loop(), asked.host, asked.port, local_networks())
        except (OSError, TimeoutError) as error:
            raise _RefusedError(
                "502 Bad Gateway", f"{asked.host} cannot be looked up: {error}", "DF"
            ) from error
        if not found:
            text = f"meshpy forward proxy: {asked.host} is not outside of the mesh"
            raise _RefusedError("403 Forbidden", text, "UH")
        _check_rules(compiled, found, asked)
        return found

    def _check_registry(self, asked: Asked) -> None:
        if not self._settings.lets(asked.host, asked.port):
            text = f"meshpy forward proxy: REGISTRY_ONLY, and {asked.host}:{asked.port} is not in it"
            raise _RefusedError("403 Forbidden", text, "UH")

    async def _through_gateway(
        self, compiled: Compiled, asked: Asked, exchange: _Exchange
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To a host that the registry does not know; the gateway looks it up, and judges by its addresses."""
        self._check_registry(asked)
        _check_rules(compiled, (), asked)
        upstream = compiled.clusters[compiled.snapshot.egress_gateway]
        cluster = replace(upstream.cluster, sni=outside_sni(asked.host, asked.port))
        tried: list[Host] = []
        while (host := upstream.pick(tried)) is not None and host not in tried:
            tried.append(host)
            try:
                made = await dial_streams(self._sidecar.own.dialer, cluster, host.endpoint)
            except DialError as error:
                _log.info("the egress gateway: %s", error)
                continue
            exchange.upstream = host.name
            return made
        raise _RefusedError("502 Bad Gateway", "the egress gateway cannot be reached", "UF")

    def _account(self, exchange: _Exchange, refused: _RefusedError | None) -> None:
        """One line of the log and the numbers of the edge, as for any opaque connection."""
        sidecar, asked = self._sidecar, exchange.asked
        workload = sidecar.live.value.workload if sidecar.live is not None else ""
        verdict = refused.verdict if refused is not None else None
        key = EdgeKey("outbound", workload, "", exchange.cluster, "tcp", False)
        edge = sidecar.telemetry.edge(key)
        if refused is None:
            edge.opened += 1
            edge.closed += 1
            edge.bytes_received += exchange.received
            edge.bytes_sent += exchange.sent
        line = Line(
            "outbound", refused.flags if refused else "-", refused.text if refused else "",
            exchange.received, exchange.sent, int((time.time() - exchange.started) * 1000),
            exchange.upstream, exchange.cluster, "", exchange.peer,
            f"{asked.host}:{asked.port}" if asked else "", "", "",
            *((verdict.policy, verdict.rule, verdict.stage) if verdict else ("", "", "")),
        )  # fmt: skip
        log_tunnel(sidecar.log, sidecar.log_options, key, line, exchange.started)


def _check_rules(compiled: Compiled, addresses: Sequence[str], asked: Asked) -> None:
    verdict = compiled.egress.judge((), addresses, asked.port, None, asked.host)
    if not verdict.allowed:
        text = f"RBAC: access denied by {decider(verdict)}: {verdict.reason}"
        raise _RefusedError("403 Forbidden", text, "-", verdict)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, exchange: _Exchange, *, is_upward: bool
) -> None:
    """Bytes one way until their end, which is passed on."""
    while True:
        async with asyncio.timeout(_IDLE_S):
            data = await reader.read(_CHUNK)
        if not data:
            break
        writer.write(data)
        if is_upward:
            exchange.received += len(data)
        else:
            exchange.sent += len(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
