"""Several processes behind one address: what each counts is on one page."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from meshpy.model.metrics import Distribution, Family, MetricKind, Number
from proxy.merged import merged, packed, unpacked
from tests.helpers.backends import backend, ok
from tests.helpers.ports import free_port
from tests.helpers.sidecars import Client
from tests.integration.proxy.test_process import asks, documented, process, wait_ready

A, B = (("to", "a"),), (("to", "b"),)


def page(requests: list[Number], level: float) -> list[Family]:
    spread = Distribution(A, (1.0, 5.0), [1, 2, 0], 7.5, [None, None, None])
    return [
        Family("requests_total", MetricKind.COUNTER, "Requests.", requests),
        Family("level", MetricKind.GAUGE, "", [Number((), level)]),
        Family("took", MetricKind.HISTOGRAM, "", [spread], "ms"),
    ]


def test_counts_are_added_and_the_greatest_gauge_holds():
    one = page([Number(A, 3), Number(B, 1)], 2.0)
    other = unpacked(packed(page([Number(B, 4)], 1.0)))
    requests, level, took = merged([one, other])
    assert requests.samples == [Number(A, 3), Number(B, 5)]
    assert level.samples == [Number((), 2.0)]
    assert took.samples == [Distribution(A, (1.0, 5.0), [2, 4, 0], 15.0, [None, None, None])]
    assert took.unit == "ms"


@pytest.mark.parametrize("workers", [1, 3])
async def test_the_page_of_metrics_tells_of_all_workers(workers, pki, tmp_path):
    """And an end of one worker that was told to stop ends all, with exit code 0."""
    call, admin = free_port(), free_port()
    async with backend(ok(b"hi")) as app:
        snapshot = documented(call)["web"]
        for cluster in snapshot["clusters"].values():
            cluster["transport"] = "plain"
            cluster["endpoints"] = [{"address": "127.0.0.1", "port": app.port}]
        (tmp_path / "web.json").write_text(json.dumps(snapshot))
        pki.save_identity(tmp_path / "web", "shop", "web")
        arguments = ["--snapshot", str(tmp_path / "web.json"), "--identity", str(tmp_path / "web")]
        arguments += ["--mesh-bind", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{admin}"]
        async with process(*arguments, "--access-log", "/dev/null", "--workers", str(workers)) as child:
            await wait_ready(admin)
            await listening(call, workers)
            for _ in range(24):  # the kernel spreads connections over the workers
                async with await Client.connect(call) as client:
                    assert (await client.get()).status == 200
            await until_counted(admin, 24)
            child.terminate()
            async with asyncio.timeout(15):
                assert await child.wait() == 0


async def listening(port: int, workers: int) -> None:
    """Until every worker listens."""
    async with asyncio.timeout(15):
        while True:
            if sockets_at(port) == workers:
                return
            await asyncio.sleep(0.05)


def sockets_at(port: int) -> int:
    """How many sockets listen there."""
    return Path("/proc/net/tcp").read_text().count(f"0100007F:{port:04X} 00000000:0000 0A")


async def until_counted(admin: int, wanted: int) -> None:
    async with asyncio.timeout(15):
        while True:
            if await counted(admin) == wanted:
                return
            await asyncio.sleep(0.1)


async def counted(admin: int) -> int:
    async with await Client.connect(admin) as client:
        body = (await asks(client, "/metrics")).body.decode()
    return sum(
        int(count) for count in re.findall(r"^istio_requests_total\{[^}]*\} (\d+)$", body, re.MULTILINE)
    )
