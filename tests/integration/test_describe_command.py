"""`meshpy describe service` and `meshpy bug-report` against a real control plane."""

import json
import tarfile

import pytest

from tests.helpers.control_plane import DENY_ALL, EDITOR, plane
from tests.helpers.meshpy_command import meshpy


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        yield running


async def test_a_service_is_described_whole(mesh):
    """Identity, ports, endpoints, what judges calls to it, and where it may call."""
    await meshpy(mesh, "apply", "-f", "-", "--no-wait", stdin=DENY_ALL)
    code, out, err = await meshpy(mesh, "describe", "service", "api", "-n", "shop")
    assert (code, err) == (0, "")
    assert "spiffe://cluster.local/ns/shop/sa/api" in out
    assert "8080/http" in out
    assert "127.0.0.5" in out
    assert "NetworkPolicy shop/deny-all" in out
    assert "web.shop" in out
    code, out, _ = await meshpy(mesh, "describe", "service", "shop/api", "-o", "json")
    assert (code, json.loads(out)["identity"]) == (0, "spiffe://cluster.local/ns/shop/sa/api")


async def test_a_service_that_is_not_there_is_named(mesh):
    code, out, err = await meshpy(mesh, "describe", "service", "nope", "-n", "shop")
    assert (code, out) == (3, "")
    assert "there is no service shop/nope" in err


async def test_a_report_has_what_helps_and_no_secret(mesh, tmp_path):
    """Every part that can be had; the operator's token is in none of them, and the archive is the owner's."""
    archive = tmp_path / "report.tar.gz"
    code, out, _ = await meshpy(mesh, "bug-report", "-f", str(archive), "--policies")
    assert (code, str(archive) in out) == (0, True)
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        texts = {name: tar.extractfile(name).read().decode() for name in tar.getnames()}
    names = {name.removeprefix("meshpy-bug-report/") for name in texts}
    assert {"versions.json", "mesh/status.json", "mesh/metrics.txt", "services/shop/api.json"} <= names
    assert "meshpy_control_plane_revision" in texts["meshpy-bug-report/mesh/metrics.txt"]
    assert not [name for name, text in texts.items() if EDITOR in text or "PRIVATE KEY" in text]


async def test_a_report_without_a_control_plane_says_what_is_missing(mesh, tmp_path):
    """The rest is there all the same."""
    archive = tmp_path / "report.tar.gz"
    code, _, err = await meshpy(mesh, "bug-report", "-f", str(archive), url="http://127.0.0.1:9")
    assert code == 0
    assert "not there: mesh/status.json: no control plane" in err
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert "meshpy-bug-report/versions.json" in names
    assert "meshpy-bug-report/missing.txt" in names
