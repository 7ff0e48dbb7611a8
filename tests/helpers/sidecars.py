"""Sidecars on this loop, with the snapshots of a small mesh, and clients that speak raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Self

from meshpy.model.authz import Authorization
from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.names import ServiceName
from meshpy.model.resilience import RetryPolicy
from meshpy.model.route import Destination, Forward, RouteRule, TcpRoute, VirtualHost
from meshpy.model.snapshot import InboundPort, OutboundListener, Snapshot, Workload
from proxy.access_log import NO_LOG, AccessLog
from proxy.net.addresses import Addresses
from proxy.sidecar import Sidecar
from tests.helpers.backends import raw_server
from tests.helpers.pki import MeshPki
from tests.helpers.ports import free_port

WEB = ServiceName("shop", "web")
API = ServiceName("shop", "api")
LOOPBACK = "127.0.0.1"

_versions = itertools.count(1)


def outbound_snapshot(
    port: int,
    clusters: dict[str, Cluster],
    rules: tuple[RouteRule, ...] = (),
    *,
    tcp: TcpRoute | None = None,
    authorization: Authorization | None = None,
    trust_domain: str = "mesh.test",
    denied: frozenset[str] = frozenset(),
) -> Snapshot:
    """The snapshot of `web`, which calls `api` through 127.0.0.1:port."""
    if not rules and clusters:
        rules = (RouteRule(Forward((Destination(next(iter(clusters)), services=(API,)),))),)
    listener = OutboundListener(
        LOOPBACK,
        port,
        Protocol.TCP if tcp is not None else Protocol.HTTP,
        () if tcp is not None else (VirtualHost("api.shop", ("api", "localhost", LOOPBACK), rules),),
        "" if tcp is not None else "api.shop",
        tcp,
    )
    return Snapshot(
        f"v{next(_versions)}",
        1,
        Workload(WEB, trust_domain),
        authorization or Authorization(),
        (),
        (listener,),
        clusters,
        denied,
    )


def inbound_snapshot(
    port: int,
    app: tuple[Endpoint, ...],
    *,
    protocol: Protocol = Protocol.HTTP,
    authorization: Authorization | None = None,
    ingress: bool = False,
    trust_domain: str = "mesh.test",
    denied: frozenset[str] = frozenset(),
) -> Snapshot:
    """The snapshot of `api`, whose app listens at `app`; open to `web` unless told otherwise."""
    name = f"inbound|{port}||"
    if authorization is None:
        authorization = Authorization(
            baseline=frozenset({WEB}), baseline_external=frozenset({port}) if ingress else frozenset()
        )
    return Snapshot(
        f"v{next(_versions)}",
        1,
        Workload(API, trust_domain),
        authorization,
        (InboundPort(port, protocol, name, ingress),),
        (),
        {name: Cluster(name, protocol, Transport.PLAIN, app)},
        denied,
    )


def plain_cluster(*ports: int, name: str = "outbound|80||api.shop", **settings: object) -> Cluster:
    """A cluster of loopback ports in plaintext."""
    endpoints = tuple(Endpoint(LOOPBACK, port) for port in ports)
    return replace(Cluster(name, Protocol.HTTP, Transport.PLAIN, endpoints), **settings)


def mesh_cluster(
    mesh_port: int, port: int = 80, workload: ServiceName = API, protocol: Protocol = Protocol.HTTP
) -> Cluster:
    """A cluster of one sidecar behind mTLS."""
    name = f"outbound|{port}||{workload.name}.{workload.namespace}"
    return Cluster(name, protocol, Transport.MTLS, (Endpoint(LOOPBACK, mesh_port, workload),))


def route(cluster: str, **settings: object) -> RouteRule:
    """A rule that sends everything to one cluster."""
    settings.setdefault("retry", RetryPolicy(attempts=0))
    return RouteRule(Forward((Destination(cluster, services=(API,)),)), **settings)


@dataclass
class LogLines:
    """An access log that can be read back."""

    log: AccessLog = NO_LOG
    _read_end: int = -1
    _seen: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.log = AccessLog(write_end)

    def lines(self) -> list[dict[str, object]]:
        self.log.flush()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._read_end, 1 << 20):
                self._seen += [json.loads(line) for line in data.splitlines()]
        return self._seen

    def close(self) -> None:
        os.close(self._read_end)


@contextlib.asynccontextmanager
async def running(
    snapshot: Snapshot,
    pki: MeshPki,
    *,
    mesh_port: int = 0,
    log: AccessLog = NO_LOG,
    binds: dict[str, tuple[str, ...]] | None = None,
    draw: Callable[[], float] | None = None,
    **settings: object,
) -> AsyncIterator[Sidecar]:
    """A sidecar with this snapshot and a fresh identity of its workload; settings are those of Sidecar."""
    extra = {} if draw is None else {"draw": draw}
    addresses = Addresses(binds or {})
    sidecar = Sidecar(
        access_log=log, addresses=addresses, mesh_bind=(LOOPBACK, mesh_port), **settings, **extra
    )
    name = snapshot.workload.name
    background = asyncio.get_running_loop().create_task(sidecar.run())
    try:
        await sidecar.set_identity(pki.identity(name.namespace, name.name), pki.bundle)
        await sidecar.apply(snapshot)
        yield sidecar
    finally:
        background.cancel()
        await asyncio.gather(background, return_exceptions=True)
        await sidecar.close()


@dataclass
class Answer:
    """A response as a strict client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: list[int] = field(default_factory=list)


class Client:
    """A raw HTTP/1.1 client: what is sent is exactly what the test wrote."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, host: str = LOOPBACK) -> Client:
        return cls(*await asyncio.open_connection(host, port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, path: str, method: str, body: bytes = b"") -> None:
        """Send a request and wait for nothing."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: api\r\n{length}\r\n".encode() + body)

    async def get(self, path: str = "/", method: str = "GET", headers: str = "") -> Answer:
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: api\r\n{headers}\r\n".encode())
        return await self.answer(method)

    async def post(self, path: str, body: bytes, method: str = "POST", headers: str = "") -> Answer:
        head = f"{method} {path} HTTP/1.1\r\nHost: api\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        await self.send(head.encode() + body)
        return await self.answer(method)

    async def head(self) -> tuple[int, dict[str, str]]:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split(" ")[1]), headers

    async def answer(self, method: str = "GET") -> Answer:
        interim = []
        status, headers = await self.head()
        while 100 <= status < 200 and status != 101:
            interim.append(status)
            status, headers = await self.head()
        body = b""
        if method != "HEAD" and status not in (101, 204, 304):
            body = await self.body(headers)
        return Answer(status, headers, body, interim)

    async def body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return await self.chunks()
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.reader.read()

    async def chunks(self) -> bytes:
        body = b""
        while size := int((await self.reader.readline()).split(b";")[0], 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        while (await self.reader.readline()) != b"\r\n":
            pass
        return body

    async def is_closed(self) -> bool:
        try:
            async with asyncio.timeout(3):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True


@contextlib.asynccontextmanager
async def pair(pki, app_port: int, *, caller=None, callee=None, log: LogLines | None = None, rules=()):
    """web's sidecar → api's sidecar → the application; yields the port that web calls, and both sidecars."""
    port, mesh_port = free_port(), free_port()
    inbound = callee or inbound_snapshot(80, (Endpoint(LOOPBACK, app_port),))
    outbound = outbound_snapshot(port, {"c": mesh_cluster(mesh_port)}, rules, **(caller or {}))
    extra = {"log": log.log} if log else {}
    async with (
        running(inbound, pki, mesh_port=mesh_port, **extra) as api,
        running(outbound, pki) as web,
    ):
        yield port, mesh_port, web, api


@contextlib.asynccontextmanager
async def tcp_pair(pki, serve, *, authorization=None, log=None):
    """The like for opaque TCP; yields the port, the callee's snapshot and both sidecars."""
    port, mesh_port = free_port(), free_port()
    cluster = mesh_cluster(mesh_port, 5432, protocol=Protocol.TCP)
    tcp = TcpRoute("db.shop", (Destination("c", services=(API,)),))
    async with raw_server(serve) as app:
        inbound = inbound_snapshot(
            5432, (Endpoint(LOOPBACK, app),), protocol=Protocol.TCP, authorization=authorization
        )
        extra = {"log": log.log} if log else {}
        async with (
            running(inbound, pki, mesh_port=mesh_port, **extra) as api,
            running(outbound_snapshot(port, {"c": cluster}, tcp=tcp), pki) as web,
        ):
            yield port, inbound, web, api


async def echo(reader, writer):
    """What comes, in capitals."""
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
