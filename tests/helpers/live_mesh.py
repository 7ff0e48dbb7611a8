"""A small mesh of sidecar processes on loopback under a real control plane, and what it answers to web."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from meshpy.cli.offline import Offline, Question
from meshpy.compile import compile_mesh
from meshpy.demo.plan import DemoPlan, StackCommand, plan_demo
from meshpy.demo.processes import Crew, own_command
from meshpy.engine.explanation import Explanation
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Inventory, Port, Service
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import MESH_PORT
from tests.helpers.backends import Backend, Received, ok
from tests.helpers.control_plane import TRUST_DOMAIN, Plane, plane, write_inventory
from tests.helpers.policies import loaded, service
from tests.helpers.sidecars import Answer, Client

__all__ = ["Ask", "LiveMesh", "differs", "live_mesh"]

WEB, API, CATALOG = (ServiceName("shop", name) for name in ("web", "api", "catalog"))
_HTTP = Port(8080, Protocol.HTTP)
_SERVICES = (
    service("web", ports=()),
    service("api", ports=(_HTTP,)),
    service("old", ports=(Port(7000, Protocol.TCP),), exempt="it has no sidecar"),
    service("rpc", ports=(Port(9090, Protocol.GRPC),)),
    service("db", ports=(Port(9000, Protocol.TCP), Port(8443, Protocol.TLS))),
    service("catalog", ports=(_HTTP,), labels={"version": "v1"}),
    service("blog/web", ports=(Port(80, Protocol.HTTP),)),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of web: `METHOD HOST PATH [name=value …]`, a plus stands for a space in a value."""

    method: str
    host: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Ask:
        method, host, path, *pairs = text.split()
        headers = [pair.replace("+", " ").partition("=") for pair in pairs]
        return cls(method, host, path, tuple((name, value) for name, _, value in headers))


@dataclass
class LiveMesh:
    """Running processes, and the inventory that says where they are."""

    plane: Plane
    plan: DemoPlan

    async def put(self, texts: Sequence[str]) -> None:
        """Have these policies and no others in force at every sidecar, or fail with what one of them says."""
        status, answer = await self.plane.put(*texts)
        assert status == 200, answer
        wait = f"/v1/revisions/{answer['revision']}/wait?timeout_s=10"
        waited = (await self.plane.call("GET", wait))[1]
        assert waited["enforced"], await self.plane.call("GET", "/v1/status")

    async def send(self, ask: Ask) -> Answer:
        """As web's app would: to the address that the name leads to there."""
        bound = self.plan.inventory.services[WEB].bind[ask.host]
        lines = "".join(f"{name}: {value}\r\n" for name, value in ask.headers)
        async with asyncio.timeout(10), await Client.connect(_HTTP.number, bound) as client:
            head = f"{ask.method} {ask.path} HTTP/1.1\r\nHost: {ask.host}:{_HTTP.number}\r\n{lines}\r\n"
            await client.send(head.encode())
            return await client.answer(ask.method)

    def explain(self, texts: Sequence[str], ask: Ask) -> Explanation:
        """What `meshpy policy explain` says of it, with no control plane."""
        inventory = self.plan.inventory
        snapshots = compile_mesh(inventory, loaded(*texts), trust_domain=TRUST_DOMAIN, revision=0)
        headers: dict[str, list[str]] = {}
        for name, value in ask.headers:
            headers.setdefault(name, []).append(value)
        address = next(each.mesh_address for each in self.plan.sidecars if each.service == WEB)
        question = Question("web", ask.host, _HTTP.number, ask.method, ask.path, headers, address)
        return Offline("shop", inventory, snapshots, ()).ask(question)


def differs(said: Explanation, answer: Answer) -> str:
    """In what the answer is not what was said; empty when it is."""
    by = answer.headers.get("x-served-by", "")
    if not said.verdict.allowed:
        refusals = (404,) if said.verdict.stage == "route" else (401, 403)
        is_refused = not by and answer.status in refusals
        return "" if is_refused else f"said denied, answered {answer.status} by {by!r}"
    if answer.status in (401, 403):
        return f"said allowed, answered {answer.status}"
    wanted = {leg.service.name for leg in said.legs if leg.service is not None and leg.share}
    if by and by not in wanted:
        return f"said it goes to {sorted(wanted)}, {by} answered"
    route: Mapping[str, object] = said.route or {}
    if not by and wanted and not route.get("fault"):
        return f"said it goes to {sorted(wanted)}, nobody of them answered but {answer.status}"
    return ""


def _serves(name: str) -> Backend:
    def reply(request: Received) -> bytes:
        return ok(request.line.encode(), headers=f"x-served-by: {name}\r\n")

    return Backend(reply)


def _as_discovered(found: Service) -> Service:
    name = found.name
    given = {"app": name.name, "service": name.name, "stack": name.namespace}
    return replace(found, labels={**given, **found.labels}, bind={})


def _octet() -> int:
    """127.N.0.0/16 in which no other mesh is."""
    for octet in range(200, 250):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((f"127.{octet}.1.2", MESH_PORT))
            return octet
    raise AssertionError("127.200 … 127.249 are all taken")


@contextlib.asynccontextmanager
async def live_mesh(folder: Path) -> AsyncIterator[LiveMesh]:
    """web, api and catalog with a sidecar process each; rpc, db, old and blog/web do not run."""
    commands = {each.name.name: StackCommand(("true",)) for each in _SERVICES}
    inventory = Inventory({each.name: _as_discovered(each) for each in _SERVICES})
    plan = plan_demo(inventory, commands, octet=_octet(), left_out={})
    write_inventory(folder / "inventory.json", plan.inventory)
    crew = Crew(folder)
    async with contextlib.AsyncExitStack() as stack:
        for app in plan.apps:
            if app.service in (API, CATALOG):
                served = _serves(app.service.name)
                server = await asyncio.start_server(served._serve, app.address, _HTTP.number)
                stack.callback(server.close)
        running = await stack.enter_async_context(plane(folder))
        stack.callback(crew.stop)
        (folder / "bundle.crt").write_text(running.running.parts.signing.bundle_pem)
        for sidecar in plan.sidecars:
            if sidecar.service in (WEB, API, CATALOG):
                await _start(running, crew, sidecar.service, sidecar.mesh_address, sidecar.edge_address)
        async with asyncio.timeout(30):
            while await _synced(running) < 3:
                crew.check()
                await asyncio.sleep(0.05)
        yield LiveMesh(running, plan)


async def _start(mesh: Plane, crew: Crew, name: ServiceName, address: str, edge: str) -> None:
    token = mesh.folder / f"{name.name}.join"
    token.touch(mode=0o600)
    token.write_text(await mesh.token(name))
    env = {
        "MESHPY_NAMESPACE": name.namespace,
        "MESHPY_SERVICE": name.name,
        "MESHPY_TASK_ID": f"local-{name.name}",
        "MESHPY_NODE": "local",
        "MESHPY_QUIET_S": "0",
        "MESHPY_CONTROL_PLANE": f"127.0.0.1:{mesh.running.sidecar_port}",
        "MESHPY_JOIN_TOKEN_FILE": str(token),
        "MESHPY_TRUST_BUNDLE_FILE": str(mesh.folder / "bundle.crt"),
    }
    argv = [own_command("meshpy-proxy"), "--mesh-bind", f"{address}:{MESH_PORT}"]
    argv += ["--admin", f"{address}:15000", "--bind", f"edge={edge}"]
    crew.start(f"{name.name}-sidecar", argv, env)


async def _synced(mesh: Plane) -> int:
    rows = (await mesh.call("GET", "/v1/status"))[1]["sidecars"]
    return sum(row["state"] == "SYNCED" for row in rows)
