"""curl and nghttp2's clients against a listener: HTTP/2 as programs of others write it."""

from __future__ import annotations

import asyncio
import re
import shutil

import pytest

from tests.helpers.backends import backend, ok
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    outbound_snapshot,
    plain_cluster,
    running,
)


async def _run(*argv: object) -> str:
    """Run a program; what it wrote. It must exit with 0."""
    process = await asyncio.create_subprocess_exec(
        *map(str, argv), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


def _needs(program: str, package: str):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed ({package})")


@_needs("curl", "curl")
@pytest.mark.parametrize("size", [0, 3, 100_000])
async def test_curl_with_prior_knowledge(pki, tmp_path, size):
    content = tmp_path / "content"
    content.write_bytes(bytes(size))
    async with backend(ok(b"x" * 70_000)) as app:
        port = free_port()
        async with running(outbound_snapshot(port, {"c": plain_cluster(app.port)}), pki):
            out = await _run(
                "curl", "-sS", "-m", "10", "--http2-prior-knowledge", "-o", "/dev/null",
                "--data-binary", f"@{content}", "-w", "%{http_version} %{http_code} %{size_download}",
                f"http://{LOOPBACK}:{port}/a",
            )  # fmt: skip
    assert out == "2 200 70000"
    assert [len(each.body) for each in app.requests] == [size]


@_needs("nghttp", "nghttp2-client")
async def test_nghttp_fetches_many_at_once(pki):
    async with backend(lambda seen: ok(seen.target.encode())) as app:
        port = free_port()
        async with running(outbound_snapshot(port, {"c": plain_cluster(app.port)}), pki):
            urls = [f"http://{LOOPBACK}:{port}/{number}" for number in range(20)]
            out = await _run("nghttp", "-ns", "--no-dep", *urls)
    assert len(re.findall(r" 200 ", out)) == 20
    assert len(app.requests) == 20


@_needs("h2load", "nghttp2-client")
async def test_h2load_finds_no_fault(pki):
    async with backend() as app:
        port = free_port()
        async with running(outbound_snapshot(port, {"c": plain_cluster(app.port)}), pki):
            out = await _run("h2load", "-n", "600", "-c", "6", "-m", "50", f"http://{LOOPBACK}:{port}/")
    assert "600 succeeded, 0 failed, 0 errored, 0 timeout" in out
    assert "600 2xx" in out
