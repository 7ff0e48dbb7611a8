"""The process: started as docs/static-snapshot.md writes it, reloaded, drained, healthy or not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

import proxy
from tests.helpers.backends import backend, ok
from tests.helpers.ports import free_port
from tests.helpers.sidecars import Client

DOCUMENT = Path(__file__).parents[3] / "docs" / "static-snapshot.md"


def documented(call: int, mesh: int = 1, app: int = 1) -> dict[str, dict]:
    """The two snapshots of the document, in the tests' trust domain and with free ports."""
    text = DOCUMENT.read_text()
    found = re.findall(r"<!-- snapshot: (\w+) -->\n```json\n(.*?)\n```", text, re.DOTALL)
    snapshots = {name: json.loads(body) for name, body in found}
    for snapshot in snapshots.values():
        snapshot["workload"]["trust_domain"] = "mesh.test"
    snapshots["web"]["outbound"][0]["port"] = call
    for name, port in (("web", mesh), ("api", app)):
        for cluster in snapshots[name]["clusters"].values():
            cluster["endpoints"][0]["port"] = port
    return snapshots


@contextlib.asynccontextmanager
async def process(*arguments: str, **environment: str):
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "proxy",
        *arguments,
        env={**os.environ, **environment},
        cwd=DOCUMENT.parents[1],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def wait_ready(admin: int) -> None:
    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                async with await Client.connect(admin) as client:
                    if (await asks(client, "/readyz")).status == 200:
                        return
            await asyncio.sleep(0.05)


async def asks(client: Client, path: str):
    await client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return await client.answer()


@contextlib.asynccontextmanager
async def documented_pair(pki, tmp_path, app_port: int):
    call, mesh, web_admin, api_admin = (free_port() for _ in range(4))
    for name, snapshot in documented(call, mesh, app_port).items():
        (tmp_path / f"{name}.json").write_text(json.dumps(snapshot))
        pki.save_identity(tmp_path / name, "shop", name)
    api = (
        "--snapshot",
        f"{tmp_path}/api.json",
        "--identity",
        f"{tmp_path}/api",
        "--mesh-bind",
        f"127.0.0.1:{mesh}",
    )
    web = ("--snapshot", f"{tmp_path}/web.json", "--identity", f"{tmp_path}/web")
    async with (
        process(
            *api, "--admin", f"127.0.0.1:{api_admin}", "--access-log", f"{tmp_path}/api.log"
        ) as api_process,
        process(
            *web, "--admin", f"127.0.0.1:{web_admin}", "--access-log", f"{tmp_path}/web.log"
        ) as web_process,
    ):
        await wait_ready(api_admin)
        await wait_ready(web_admin)
        yield call, web_admin, web_process, api_process


async def test_the_documented_pair_runs_as_written_reloads_and_drains(pki, tmp_path):
    async with backend() as app, documented_pair(pki, tmp_path, app.port) as (call, admin, web, api):
        async with await Client.connect(call) as client:
            assert (await client.get()).status == 200
            denied = await client.get("/admin")
            assert denied.status == 403
            assert b"AuthorizationPolicy shop/no-admin rules[0]" in denied.body
        async with await Client.connect(admin) as client:
            metrics = (await asks(client, "/metrics")).body.decode()
            assert 'response_code="200",response_flags="-"' in metrics
            assert 'connection_security_policy="mutual_tls"' in metrics
            assert json.loads((await asks(client, "/config_dump")).body)["workload"]["name"] == "shop/web"
            info = json.loads((await asks(client, "/server_info")).body)
            assert info["identity"].endswith("/sa/web")
            assert info["is_compiled"] == proxy.is_compiled
            await client.send(b"GET /config_dump HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert (await client.answer()).status == 421
        await _reload(tmp_path, web, call)
        web.send_signal(signal.SIGTERM)
        api.send_signal(signal.SIGTERM)
        async with asyncio.timeout(8):
            assert await web.wait() == 0
            assert await api.wait() == 0
    lines = [json.loads(line) for line in (tmp_path / "api.log").read_text().splitlines()]
    assert [line["response_code"] for line in lines[:2]] == [200, 403]
    assert lines[1]["policy"] == "AuthorizationPolicy shop/no-admin"


async def _reload(tmp_path: Path, web, call: int) -> None:
    path = tmp_path / "web.json"
    good = path.read_text()
    path.write_text(good.replace('"default_host"', '"defaulthost"'))
    web.send_signal(signal.SIGHUP)
    async with asyncio.timeout(5):
        while b"unknown key" not in await web.stderr.readline():
            pass
    async with await Client.connect(call) as client:
        assert (await client.get()).status == 200
    changed = json.loads(good)
    changed["version"] = "2"
    rule = changed["outbound"][0]["virtual_hosts"][0]["rules"][0]
    rule["action"] = {"kind": "DirectResponse", "status": 418}
    path.write_text(json.dumps(changed))
    web.send_signal(signal.SIGHUP)
    async with asyncio.timeout(5), await Client.connect(call) as client:
        while (await client.get()).status != 418:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("lacks", ["identity", "snapshot", "match"])
async def test_without_certificate_or_snapshot_it_does_not_start(pki, tmp_path, lacks):
    call = free_port()
    snapshot = {} if lacks == "snapshot" else documented(call)["web"]
    (tmp_path / "web.json").write_text(json.dumps(snapshot))
    if lacks != "identity":
        pki.save_identity(tmp_path / "id", "shop", "other" if lacks == "match" else "web")
    arguments = ("--snapshot", f"{tmp_path}/web.json", "--identity", f"{tmp_path}/id")
    async with process(*arguments, "--admin", f"127.0.0.1:{free_port()}") as child:
        async with asyncio.timeout(10):
            _, errors = await child.communicate()
        assert child.returncode == 2
        assert str(tmp_path).encode() in errors
        assert b"Traceback" not in errors
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(call)


async def test_the_health_check_tells_by_its_exit_code(pki, tmp_path):
    async with backend(ok()) as app, documented_pair(pki, tmp_path, app.port) as (_, admin, _, _):
        async with process("healthcheck", MESHPY_ADMIN=f"127.0.0.1:{admin}") as child:
            await child.communicate()
            assert child.returncode == 0
        async with process("healthcheck", MESHPY_ADMIN=f"127.0.0.1:{free_port()}") as child:
            await child.communicate()
            assert child.returncode == 1


async def test_usage_errors_say_what_to_write():
    async with process("--snapshot", "x.json") as child:
        _, errors = await child.communicate()
        assert (child.returncode, b"belong together" in errors) == (2, True)
