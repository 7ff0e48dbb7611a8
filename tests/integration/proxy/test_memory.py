"""What a running sidecar does without: each of these libraries would be a tenth or more of its memory."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.backends import backend
from tests.helpers.control_plane import API, WEB, plane, write_inventory
from tests.helpers.lines import environment, options, own_net, pair_inventory
from tests.helpers.sidecars import Client

ROOT = Path(__file__).parents[3]
NET = own_net()
_IMPORTED = (
    "import sys, proxy.start, proxy.control_client; print(*(name.split('.')[0] for name in sys.modules))"
)


def libraries(pid):
    """Packages of which the process has a compiled part in memory."""
    mapped = Path(f"/proc/{pid}/maps").read_text()
    return {
        line.split("/site-packages/")[1].split("/")[0]
        for line in mapped.splitlines()
        if "/site-packages/" in line
    }


def test_what_every_sidecar_imports_holds_no_library_that_few_features_need():
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.split())
    needless = {
        "cryptography",
        "aiohttp",
        "re2",
        "_re2",
        "h2",
        "rich",
        "ruamel",
        "click",
        "tempfile",
        "unittest",
    }
    assert not imported & needless


async def test_sidecars_with_a_control_plane_exchange_over_mtls_without_libraries(tmp_path):
    """The X.509 library and aiohttp: they have made keys, were given certificates, have read each other's."""
    async with backend() as app:
        write_inventory(tmp_path / "inventory.json", pair_inventory(app.port, NET))
        async with plane(tmp_path) as mesh:
            started = [
                await _started(await options(mesh, name), f"{NET}.{at}") for name, at in ((API, 5), (WEB, 6))
            ]
            try:
                async with asyncio.timeout(30):
                    while not await _is_answered(app.port):  # noqa: ASYNC110 - another process
                        await asyncio.sleep(0.1)
                for each in started:
                    assert not libraries(each.pid) & {"cryptography", "aiohttp", "google_re2"}
            finally:
                for each in started:
                    each.kill()
                    await each.wait()


async def _started(how, address):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "--mesh-bind", f"{address}:15443",
        env={**os.environ, **environment(how, address)}, cwd=ROOT,
    )  # fmt: skip


async def _is_answered(port):
    try:
        async with await Client.connect(port, f"{NET}.9") as client:
            return (await client.get()).status == 200
    except OSError:
        return False
