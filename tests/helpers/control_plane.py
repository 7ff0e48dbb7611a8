"""A real control plane in this process, on loopback, and a sidecar's side of the conversation with it."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from certs.bundle import TrustBundle
from certs.csr import csr_to_pem, make_csr
from certs.identity import Identity
from certs.keys import generate_key, key_to_pem
from certs.spiffe import SpiffeId
from certs.tls import client_context
from control_plane.app import Running, running
from control_plane.language import MeshLanguage
from control_plane.settings import Listen, Settings, Source
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.inventory import Inventory, Port, Service
from meshpy.model.names import ServiceName
from meshpy.wire import apply_delta, encode

TRUST_DOMAIN = "cluster.local"
ADMIN, EDITOR, VIEWER = "admin-token-0123456789", "editor-token-0123456789", "viewer-token-0123456789"
API, WEB = ServiceName("shop", "api"), ServiceName("shop", "web")
DENY_ALL = """\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: deny-all, namespace: shop}
spec:
  selector: all()
  types: [Ingress]
  ingress: [{action: Deny}]
"""


def service(name: ServiceName, *addresses: str, **fields: Any) -> Service:
    """A meshed service with one HTTP port and an endpoint per address."""
    return Service(
        name=name,
        labels={"app": name.name, "service": name.name, "stack": name.namespace},
        ports=(Port(8080, Protocol.HTTP),),
        networks=frozenset({f"{name.namespace}_default"}),
        bind={"": "127.0.0.9"},
        endpoints=tuple(Endpoint(address, 15443, name) for address in addresses),
        **fields,
    )


def shop(api_addresses: tuple[str, ...] = ("127.0.0.5",)) -> Inventory:
    """Two services that may call each other."""
    return Inventory({API: service(API, *api_addresses), WEB: service(WEB, "127.0.0.6")})


def write_inventory(path: Path, inventory: Inventory) -> None:
    path.write_text(json.dumps(encode(inventory)))


def settings(folder: Path) -> Settings:
    """Static discovery of `folder`/inventory.json, ports of the system's choice, three operators."""
    import hashlib

    roles = {ADMIN: "admin", EDITOR: "editor", VIEWER: "viewer"}
    hashed = {hashlib.sha256(token.encode()).hexdigest(): role for token, role in roles.items()}
    (folder / "operators.json").write_text(json.dumps(hashed))
    (folder / "join-key").write_text("k" * 48)
    if not (folder / "inventory.json").exists():
        write_inventory(folder / "inventory.json", shop())
    return Settings(
        data=folder / "data",
        trust_domain=TRUST_DOMAIN,
        sidecar_listen=Listen("127.0.0.1", 0),
        operator_listen=Listen("127.0.0.1", 0),
        source=Source.STATIC,
        operator_token_file=folder / "operators.json",
        join_key_file=folder / "join-key",
        inventory=folder / "inventory.json",
        operator_tls=False,
    )


@dataclass
class Plane:
    """A running control plane and an HTTP client."""

    running: Running
    http: aiohttp.ClientSession
    folder: Path

    @property
    def operator(self) -> str:
        return f"http://127.0.0.1:{self.running.operator_port}"

    @property
    def sidecar(self) -> str:
        return f"https://127.0.0.1:{self.running.sidecar_port}"

    async def call(
        self, method: str, path: str, body: object = None, token: str = ADMIN
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {token}"}
        url = self.operator + path
        async with self.http.request(method, url, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def put(self, *texts: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        documents = [{"name": f"{i}.yaml", "text": text} for i, text in enumerate(texts)]
        return await self.call("PUT", "/v1/policies", {"documents": documents, **fields})

    async def token(self, name: ServiceName = API) -> str:
        return (await self.call("POST", "/v1/join-tokens", {"service": str(name)}))[1]["token"]

    def anonymous(self) -> ssl.SSLContext:
        """What a sidecar has before it has a certificate: the trust bundle."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.running.parts.signing.bundle_pem)
        return context

    def speaking_as(self, identity: Identity) -> ssl.SSLContext:
        bundle = TrustBundle.from_pem(TRUST_DOMAIN, self.running.parts.signing.bundle_pem.encode())
        return client_context(identity, bundle, alpn=["http/1.1"])

    async def ask(
        self, body: object, tls: ssl.SSLContext | None = None, raw: bytes | None = None
    ) -> tuple[int, dict[str, Any]]:
        """POST /v1/certificates."""
        data = io.BytesIO(raw if raw is not None else json.dumps(body).encode())
        headers = {"Content-Type": "application/json"}
        async with self.http.post(
            f"{self.sidecar}/v1/certificates", data=data, headers=headers, ssl=tls or self.anonymous()
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def enrol(self, name: ServiceName = API, task: str = "t1") -> Identity:
        return await self.enrol_with(await self.token(name), name, task)

    async def enrol_with(self, token: str, name: ServiceName, task: str) -> Identity:
        key = generate_key()
        body = {"csr": csr_pem(key, name), "service": str(name), "task": task, "token": token}
        status, answer = await self.ask(body)
        assert status == 200, answer
        return Identity.from_pem(answer["chain"].encode(), key_to_pem(key))

    @asynccontextmanager
    async def stream(
        self, identity: Identity, held: str = "", task: str = "t1", revision: int = 0
    ) -> AsyncIterator[Sidecar]:
        tls = self.speaking_as(identity)
        async with self.http.ws_connect(f"{self.sidecar}/v1/stream", ssl=tls) as socket:
            hello = {"type": "hello", "held": held, "task": task, "node": "n1", "revision": revision}
            await socket.send_json(hello)
            yield Sidecar(socket)


class Sidecar:
    """Keeps what it is sent."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.snapshot: dict[str, Any] | None = None

    async def delta(self) -> dict[str, Any]:
        """The next delta; bundles are passed over."""
        while True:
            message = await self.socket.receive_json(timeout=5)
            if message["type"] == "snapshot":
                return message["delta"]

    async def take(self) -> dict[str, Any]:
        """Apply and acknowledge the next delta."""
        delta = await self.delta()
        self.snapshot = apply_delta(self.snapshot if delta["base"] else None, delta)
        await self.socket.send_json({"type": "ack", "version": delta["version"]})
        return delta


def csr_pem(key: Any, name: ServiceName) -> str:
    spiffe_id = SpiffeId.for_service(TRUST_DOMAIN, name.namespace, name.name)
    return csr_to_pem(make_csr(key, spiffe_id))


@asynccontextmanager
async def plane(folder: Path, **changes: Any) -> AsyncIterator[Plane]:
    """A control plane over `folder`; `changes` are settings."""
    configured = replace(settings(folder), **changes)
    async with running(configured, MeshLanguage(TRUST_DOMAIN)) as served, aiohttp.ClientSession() as http:
        async with asyncio.timeout(10):
            while not served.parts.registry.is_ready:  # noqa: ASYNC110 - as a probe would
                await asyncio.sleep(0.01)
        yield Plane(served, http, folder)
