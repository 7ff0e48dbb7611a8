"""Record what a control plane and a sidecar of this release say to each other: `-m tests.bench.record_wire`.

Writes tests/fixtures/wire/<minor>.json, once a release; tests/integration/test_version_skew.py plays every
record that is kept against the code of now. What a run alone has (roots, ports) is left as it was.
"""

import asyncio
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

from control_plane import distribution
from tests.helpers.backends import backend
from tests.helpers.control_plane import API, DENY_ALL, VIEWER, WEB, plane, write_inventory
from tests.helpers.lines import line, options, own_net, pair_inventory, until
from tests.helpers.sidecars import Client

FOLDER = Path(__file__).parents[1] / "fixtures" / "wire"
TRACED = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


class Recorder:
    """A socket that notes what passes, in both directions."""

    def __init__(self, socket, said):
        self._socket, self._said = socket, said

    async def frames(self):
        async for text in self._socket.frames():
            self._said.append(("sidecar", text))
            yield text

    async def send(self, text):
        self._said.append(("control_plane", text))
        await self._socket.send(text)


async def conversation(folder):
    """What passes on the streams of `web` and `api` while a request, a tap, a change and a drain happen."""
    said = {}
    serve = distribution.Distribution.serve

    async def recorded(self, stream, socket):
        return await serve(self, stream, Recorder(socket, said.setdefault(str(stream.service), [])))

    distribution.Distribution.serve = recorded
    net = own_net()
    async with backend() as app:
        write_inventory(folder / "inventory.json", pair_inventory(app.port, net))
        async with plane(folder) as mesh:  # noqa: SIM117 - one context per line would hide which is which
            async with (
                line(await options(mesh, API), (f"{net}.5", 15443)) as (_, _),
                line(await options(mesh, WEB), (f"{net}.6", 15443)) as (sidecar, _),
            ):
                await until(lambda: sidecar.is_ready)
                await asyncio.sleep(1)
                async with await Client.connect(app.port, f"{net}.9") as client:
                    tap = asyncio.get_running_loop().create_task(
                        mesh.call("GET", "/v1/tap?for_s=3", token=VIEWER)
                    )
                    await asyncio.sleep(1)
                    await client.get("/traced")
                    await mesh.put(DENY_ALL)
                    await asyncio.sleep(1.5)
                    await client.get("/denied")
                    tap.cancel()
                    await asyncio.gather(tap, return_exceptions=True)
                write_inventory(folder / "inventory.json", pair_inventory(app.port, "192.0.2"))  # refused
                await asyncio.sleep(1.5)
                sidecar.draining.set()
                await asyncio.sleep(1.5)
    return said


def main():
    with tempfile.TemporaryDirectory() as folder:
        said = asyncio.run(conversation(Path(folder)))
    minor = ".".join(version("swarm-meshpy").split(".")[:2])
    streams = {
        service: [{"from": who, "frame": json.loads(text)} for who, text in frames]
        for service, frames in sorted(said.items())
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{minor}.json").write_text(json.dumps({"meshpy": minor, "streams": streams}, indent=1) + "\n")
    for service, frames in streams.items():
        print(service, [f"{each['from'][0]}:{each['frame']['type']}" for each in frames])


if __name__ == "__main__":
    main()
