"""Whole sidecars on this loop that take certificates and snapshots from a control plane."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import AppAddress, Inventory, Port
from meshpy.model.names import ServiceName
from proxy.access_log import NO_LOG
from proxy.control_client import ControlClient
from proxy.net.addresses import Addresses
from proxy.options import ControlOptions
from proxy.sidecar import Sidecar
from tests.helpers.control_plane import API, TRUST_DOMAIN, WEB, Plane, service

LOOPBACK = "127.0.0.1"


async def options(mesh: Plane, name: ServiceName, *, cache: Path | None = None) -> ControlOptions:
    """As the environment of a sidecar says, with a fresh token."""
    token, bundle = mesh.folder / f"{name.name}.join", mesh.folder / "bundle.crt"
    if not token.exists():
        token.write_text(await mesh.token(name))
    bundle.write_text(mesh.running.parts.signing.bundle_pem)
    port = mesh.running.sidecar_port
    return ControlOptions(LOOPBACK, port, TRUST_DOMAIN, str(name), "t1", "n1", token, bundle, cache)


def environment(how: ControlOptions, address: str) -> dict[str, str]:
    """What `meshpy inject` writes for a sidecar's process; its admin server is at `address`."""
    return {
        "MESHPY_CONTROL_PLANE": f"{how.address}:{how.port}",
        "MESHPY_TRUST_DOMAIN": how.trust_domain,
        "MESHPY_NAMESPACE": how.service.partition("/")[0],
        "MESHPY_SERVICE": how.service.partition("/")[2],
        "MESHPY_TASK_ID": how.task,
        "MESHPY_JOIN_TOKEN_FILE": str(how.token_file),
        "MESHPY_TRUST_BUNDLE_FILE": str(how.bundle_file),
        "MESHPY_ADMIN": f"{address}:15000",
        "MESHPY_ACCESS_LOG": os.devnull,
    }


@contextlib.asynccontextmanager
async def line(
    how: ControlOptions, mesh_bind: tuple[str, int] = (LOOPBACK, 0)
) -> AsyncIterator[tuple[Sidecar, ControlClient]]:
    """A sidecar and its line; both end with the block."""
    sidecar = Sidecar(access_log=NO_LOG, addresses=Addresses({"edge": ()}), mesh_bind=mesh_bind)
    client = ControlClient(sidecar, how, mesh_bind)
    async with asyncio.TaskGroup() as group:
        works = [group.create_task(sidecar.run()), group.create_task(client.run())]
        try:
            yield sidecar, client
        finally:
            for work in works:
                work.cancel()
            await sidecar.close()


async def until(check, seconds: float = 10.0) -> None:
    """Wait until `check()` is true."""
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - what others do has no event
            await asyncio.sleep(0.01)


def pair_inventory(app_port: int, net: str) -> Inventory:
    """`web` calls `api` at `net`.9:app_port; api's sidecar is at `net`.5, its app on 127.0.0.1."""
    port = Port(app_port, Protocol.HTTP)
    api = service(API, f"{net}.5")
    api = replace(api, ports=(port,), app=AppAddress(addresses=(LOOPBACK,)), bind={})
    web = replace(service(WEB, f"{net}.6"), ports=(), bind={"api": f"{net}.9"})
    return Inventory({API: api, WEB: web})


def own_net() -> str:
    """Three octets of loopback that no other test process uses."""
    return f"127.{64 + os.getpid() % 60}.{os.getpid() // 60 % 250 + 1}"
