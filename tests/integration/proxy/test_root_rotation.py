"""`meshpy ca rotate` on a mesh that works: A, A and B, B; nobody is cut off who was not named."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from certs.bundle import TrustBundle
from certs.csr import checked_public_key
from certs.identity import Identity
from certs.rotation import Phase
from control_plane.discovery.view import View
from control_plane.followers import Followers
from control_plane.settings import Listen
from control_plane.store.sqlite import SqliteStore
from control_plane.streams import Stream
from meshpy.client import ApiError, Context, Operator
from tests.helpers.backends import backend
from tests.helpers.control_plane import ADMIN, API, TRUST_DOMAIN, WEB, plane, write_inventory
from tests.helpers.lines import line, options, own_net, pair_inventory, until
from tests.helpers.pki import mesh_pki
from tests.helpers.ports import free_port
from tests.helpers.sidecars import Client

NET = own_net()


@pytest.fixture
async def mesh(tmp_path):
    async with backend() as app:
        write_inventory(tmp_path / "inventory.json", pair_inventory(app.port, NET))
        async with plane(tmp_path) as running:
            running.app = app
            yield running


async def _start(mesh, *words):
    """Begin `meshpy ca …` as an operator of this mesh."""
    context = mesh.folder / "operator" / "context.json"
    if not context.exists():
        context.parent.mkdir()
        context.write_text(json.dumps({"url": mesh.operator, "token": ADMIN}))
    env = os.environ | {"MESHPY_CONTEXT": str(context), "MESHPY_URL": mesh.operator}
    command = (str(Path(sys.executable).with_name("meshpy")), "ca", *words)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, env=env, stdout=pipe, stderr=pipe)


async def _meshpy(mesh, *words):
    process = await _start(mesh, *words)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode() + err.decode()


async def _rotation(mesh):
    return (await mesh.call("GET", "/v1/ca/rotation"))[1]


class Load:
    """Requests one after the other through both sidecars, while the block runs."""

    def __init__(self, port):
        self.port, self.served, self.failed, self._stop = port, 0, [], False

    async def run(self):
        while not self._stop:
            try:
                async with asyncio.timeout(10), await Client.connect(self.port, f"{NET}.9") as client:
                    for _ in range(20):
                        answer = await client.get()
                        self.served += answer.status == 200
                        if answer.status != 200:
                            self.failed.append(answer.status)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.failed.append(repr(error))
            await asyncio.sleep(0.005)

    async def __aenter__(self):
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *_):
        self._stop = True
        await self._task


async def test_one_command_takes_a_mesh_under_load_from_a_to_b(mesh):
    """No request fails, every certificate is under B in the end, and the new key has its place."""
    parts = mesh.running.parts
    old = parts.signing.authority.root
    async with (
        line(await options(mesh, API), (f"{NET}.5", 15443)) as (api, _),
        line(await options(mesh, WEB), (f"{NET}.6", 15443)) as (web, _),
    ):
        await until(lambda: api.is_ready and web.is_ready and len(parts.distribution.connected()) == 2)
        code, text = await _meshpy(mesh, "rotate", "--dry-run")
        assert (code, "2 of 2 sidecars are ready" in text) == (0, True), text
        async with Load(mesh.app.port) as load:
            code, text = await _meshpy(mesh, "rotate", "--wait", "20")
            assert code == 0, text
        assert (load.failed, load.served > 20) == ([], True)
        new = parts.signing.authority.root
        assert new != old
        for sidecar in (api, web):
            credentials = sidecar.credentials.value
            assert credentials.bundle.certificates == (new,)
            assert credentials.identity.chain_pem.count(b"BEGIN") == 2
        assert {stream.issuer for stream in parts.distribution.connected()} == {parts.ca.state.issuer.key_id}
        assert sorted(each.name for each in (mesh.folder / "operator").iterdir()) == [
            "context.json",
            "root.crt",
            "root.key",
        ]
        events = [
            json.loads(each)["event"] for each in (mesh.folder / "data/audit.jsonl").read_text().splitlines()
        ]
        assert [each for each in events if each.startswith("ca-")] == [
            "ca-request",
            "ca-next",
            "ca-advance",
            "ca-advance",
        ]
        code, text = await _meshpy(mesh, "status")
        assert (code, new.subject.rfc4514_string() in text) == (0, True), text


async def test_a_sidecar_that_lags_stops_the_rotation_until_it_is_named(mesh):
    async with mesh.stream(await mesh.enrol()) as sidecar:
        await sidecar.take()  # an older release, say: it takes bundles and acknowledges none
        code, text = await _meshpy(mesh, "rotate", "--wait", "0.5")
        assert code != 0
        assert "shop/api/t1: has not acknowledged the trust bundle" in text
        assert (await _rotation(mesh))["phase"] == "trusting"
        status, answer = await mesh.call("POST", "/v1/ca/advance", {"from": "trusting"})
        assert (status, answer["lagging"]) == (409, ["shop/api/t1"])
        code, text = await _meshpy(mesh, "rotate", "--dry-run")
        assert (code, "shop/api/t1" in text) == (1, True)
        code, text = await _meshpy(mesh, "rotate", "--force", "shop/api/t1", "--wait", "5")
        assert code == 0, text
        assert (await _rotation(mesh))["phase"] == "steady"


async def test_a_holder_of_a_certificate_who_is_away_counts_even_after_a_restart(tmp_path):
    async with plane(tmp_path) as mesh:
        await mesh.enrol(API, task="t7")
    async with plane(tmp_path) as mesh:
        (found,) = (await _rotation(mesh))["waiting_for"]
        assert found["name"] == "shop/api/t7"
        assert "holds a certificate until" in found["why"]


async def test_a_rotation_can_be_given_up_before_the_new_root_signs(mesh):
    before = mesh.running.parts.ca.state.bundle_id
    async with mesh.stream(await mesh.enrol()):
        await _meshpy(mesh, "rotate", "--wait", "0.2")
        assert (await _rotation(mesh))["phase"] == "trusting"
        code, _ = await _meshpy(mesh, "rotate", "--abort")
        assert (code, mesh.running.parts.ca.state.bundle_id) == (0, before)
        assert (await mesh.call("POST", "/v1/ca/abort"))[0] == 409


async def test_the_command_is_killed_again_and_again_and_comes_to_the_end(mesh):
    """SIGKILL anywhere: the next run goes on from what the mesh and the folder hold."""
    async with line(await options(mesh, WEB)) as (web, _):
        await until(lambda: web.is_ready and mesh.running.parts.distribution.connected())
        old, kills = mesh.running.parts.signing.authority.root, 0
        for delay_s in (0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.2, 1.5, 3.0, 90.0):
            process = await _start(mesh, "rotate", "--wait", "20")
            try:
                async with asyncio.timeout(delay_s):
                    await process.communicate()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
                    process.send_signal(signal.SIGKILL)
                await process.communicate()
                kills += 1
            else:
                break
        assert process.returncode == 0
        state = mesh.running.parts.ca.state
        assert (state.phase, len(state.retired), state.authority.root != old) == (Phase.STEADY, 1, True)
        assert web.credentials.value.bundle.certificates == (state.authority.root,)
        root = TrustBundle.from_pem(TRUST_DOMAIN, (mesh.folder / "operator/root.crt").read_bytes())
        assert root.certificates == (state.authority.root,)  # exactly one root was made, whose key is there
        assert kills > 0


async def test_the_control_plane_restarts_in_every_phase_and_goes_on(tmp_path):
    async with backend() as app:
        write_inventory(tmp_path / "inventory.json", pair_inventory(app.port, NET))
        listens = {"sidecar_listen": Listen("127.0.0.1", free_port())}
        async with plane(tmp_path, **listens) as mesh:
            how, pki = await options(mesh, WEB), mesh_pki(TRUST_DOMAIN)
        body = {"root": pki.bundle.to_pem().decode(), "chain": _pem(pki.ca.intermediate)}
        body["key"] = _key(pki.ca.intermediate_key)
        phases = []
        async with line(how) as (web, _):
            for step in ("next", "advance", "advance", None):
                async with plane(tmp_path, **listens) as mesh:
                    phases.append((await _rotation(mesh))["phase"])
                    async with asyncio.timeout(15):
                        while (now := await _rotation(mesh))["waiting_for"] or not now["ready"]:  # noqa: ASYNC110
                            await asyncio.sleep(0.05)
                    if step is not None:
                        sent = body if step == "next" else {"from": phases[-1]}
                        status, answer = await mesh.call("POST", f"/v1/ca/{step}", sent)
                        assert status == 200, answer
                    else:
                        await until(lambda: web.credentials.value.bundle.certificates == (pki.ca.root,))
        assert phases == ["steady", "trusting", "issuing", "steady"]


def _pem(certificate):
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()


def _key(key):
    from certs.keys import key_to_pem

    return key_to_pem(key).decode()


async def test_a_task_with_the_bundle_of_before_still_joins_until_the_old_root_is_forgotten(mesh):
    how = await options(mesh, WEB)
    before = how.bundle_file.read_bytes()
    code, text = await _meshpy(mesh, "rotate")
    assert code == 0, text
    how.bundle_file.write_bytes(before)
    async with line(how) as (web, _):
        await until(lambda: web.is_ready)
        assert web.credentials.value.bundle.certificates == (mesh.running.parts.signing.authority.root,)
    assert (await mesh.call("DELETE", "/v1/ca/retired"))[0] == 200
    how.bundle_file.write_bytes(before)
    async with line(how) as (web, _):
        await until(lambda: web.why_closed)
        assert "certificate verify failed" in web.why_closed


async def test_an_intermediate_is_renewed_and_nobody_notices(mesh):
    """The yearly task, with the root's key on the operator's machine alone."""
    await _meshpy(mesh, "rotate")
    before = mesh.running.parts.ca.state
    async with mesh.stream(await mesh.enrol()) as sidecar:
        await sidecar.take()
        code, text = await _meshpy(mesh, "rotate", "--intermediate")
        assert code == 0, text
        after = mesh.running.parts.ca.state
        assert (after.bundle_id, after.phase) == (before.bundle_id, Phase.STEADY)
        assert after.issuer.key_id != before.issuer.key_id
        with pytest.raises(TimeoutError):
            await sidecar.socket.receive(timeout=0.3)


async def test_a_brought_ca_is_checked_exported_and_taken(mesh, tmp_path):
    pki, folder = mesh_pki(TRUST_DOMAIN), tmp_path / "brought"
    folder.mkdir()
    for name, text in (
        ("root.pem", pki.bundle.to_pem().decode()),
        ("chain.pem", _pem(pki.ca.intermediate)),
        ("ca.key", _key(pki.ca.intermediate_key)),
        ("other.key", _key(mesh_pki(TRUST_DOMAIN).ca.intermediate_key)),
        ("phrase", "correct horse battery"),
    ):
        (folder / name).write_text(text)
    words = ("import", "--root", str(folder / "root.pem"), "--chain", str(folder / "chain.pem"), "--key")
    code, text = await _meshpy(mesh, *words, str(folder / "other.key"))
    assert (code, f"{folder / 'other.key'}: does not belong to" in text) == (2, True), (code, text)
    code, text = await _meshpy(mesh, *words, str(folder / "ca.key"))
    assert code == 0, text
    assert mesh.running.parts.signing.authority.root == pki.ca.root
    saved = tmp_path / "backup"
    code, text = await _meshpy(mesh, "export", str(saved), "--passphrase-file", str(folder / "phrase"))
    assert code == 0, text
    assert "ENCRYPTED" in (saved / "intermediate.key").read_text()
    status, answer = await mesh.call("POST", "/v1/ca/export", {"passphrase": "short"})
    assert (status, "at least 12" in answer["detail"]) == (400, True)
    changes = {"ca_dir": saved, "ca_passphrase_file": folder / "phrase"}
    (tmp_path / "restored").mkdir()
    async with plane(tmp_path / "restored", **changes) as restored:
        assert restored.running.parts.signing.authority.root == pki.ca.root


async def test_the_request_is_signed_offline_and_imported_without_a_key(mesh, tmp_path):
    """The whole ceremony: the root's key is in no process that has a network."""
    code, _ = await _meshpy(mesh, "init", str(tmp_path / "offline"))
    assert code == 0
    code, csr = await _meshpy(mesh, "request")
    assert code == 0
    (tmp_path / "ca.csr").write_text(csr)
    assert checked_public_key(csr.encode())
    assert (await mesh.call("POST", "/v1/ca/request"))[1]["csr"].splitlines()[3:-6] == csr.splitlines()[3:-6]
    root = ("--root", str(tmp_path / "offline/root.crt"))
    key = ("--root-key", str(tmp_path / "offline/root.key"))
    code, chain = await _meshpy(mesh, "sign", str(tmp_path / "ca.csr"), *root, *key)
    assert code == 0, chain
    (tmp_path / "chain.pem").write_text(chain)
    code, text = await _meshpy(mesh, "import", *root, "--chain", str(tmp_path / "chain.pem"))
    assert code == 0, text
    assert (await _rotation(mesh))["root"] == TrustBundle.from_pem(
        TRUST_DOMAIN, (tmp_path / "offline/root.crt").read_bytes()
    ).fingerprints[0]


async def test_a_certificate_under_a_forgotten_root_is_replaced_by_the_token(mesh):
    """A sidecar that slept through the whole rotation comes back by its join token."""
    async with line(await options(mesh, WEB)) as (web, client):
        await until(lambda: web.is_ready)
        asleep = mesh_pki(TRUST_DOMAIN).identity("shop", "web")
        client._enrolled = type(client._enrolled)(asleep, client._enrolled.bundle, {})
        client.ask_renewal(0.0)
        await until(lambda: client._enrolled.identity is not asleep)
        assert web.credentials.value.identity is client._enrolled.identity


async def test_replicas_that_share_a_store_know_who_is_ready_with_the_others(mesh, tmp_path):
    """A sidecar that follows at one replica does not lag at the other."""
    parts, shared = mesh.running.parts, SqliteStore(tmp_path / "progress.sqlite")
    identity = await mesh.enrol(WEB, task="t2")
    assert isinstance(identity, Identity)
    async with mesh.stream(identity, task="t2") as sidecar:
        await sidecar.take()
        await _meshpy(mesh, "rotate", "--wait", "0.2")  # `trusting`, and t2 lags
        bundle = parts.ca.state.bundle_id
        await sidecar.socket.send_json({"type": "believes", "bundle": bundle})
        await until(lambda: parts.distribution.connected()[0].believes == bundle)
        here = Followers(parts.distribution, parts.ca, View, shared, "one")

        class Nobody:
            """The other replica's streams."""

            def connected(self):
                return []

            def gone(self, _view):
                return [Stream(WEB, "", identity.not_after, task="t2")]

        there = Followers(Nobody(), parts.ca, View, shared, "two")
        assert [each.name for each in there.laggards()] == ["shop/web/t2"]
        await here._exchange(shared)
        await there._exchange(shared)
        assert there.laggards() == []
    await shared.close()


@pytest.mark.parametrize("role", ["editor-token-0123456789", "viewer-token-0123456789"])
async def test_only_admins_touch_the_ca(mesh, role):
    calls = [("POST", "request"), ("POST", "next"), ("POST", "advance"), ("POST", "abort")]
    for method, what in [*calls, ("DELETE", "retired"), ("POST", "export")]:
        assert (await mesh.call(method, f"/v1/ca/{what}", {}, token=role))[0] == 403
    with pytest.raises((aiohttp.ClientError, AssertionError)):
        async with mesh.http.get(f"{mesh.operator}/v1/ca/rotation") as answer:
            assert answer.status == 200


async def test_certificates_of_five_seconds_are_renewed_again_and_again_under_load(tmp_path):
    """`python -m tests.bench.identity rotations` is the long form."""
    async with backend() as app:
        write_inventory(tmp_path / "inventory.json", pair_inventory(app.port, NET))
        async with (
            plane(tmp_path, certificate_ttl_s=5) as mesh,
            line(await options(mesh, API), (f"{NET}.5", 15443)) as (api, _),
            line(await options(mesh, WEB), (f"{NET}.6", 15443)) as (web, _),
        ):
            await until(lambda: api.is_ready and web.is_ready)
            async with Load(app.port) as load:
                for sidecar in (api, web):
                    await until(lambda s=sidecar: s.credentials.value.generation >= 4, 20)
            assert load.failed == []
            assert load.served > 20


async def test_an_operator_with_the_bundle_of_before_is_still_served(tmp_path):
    """The server's certificate is under the root that the client says it knows, by its name."""
    async with plane(tmp_path, operator_tls=True) as mesh:
        before = mesh.running.parts.signing.bundle_pem
        url = f"https://127.0.0.1:{mesh.running.operator_port}"
        operators = [Operator(Context(url, ADMIN, before))]
        pki = mesh_pki(TRUST_DOMAIN)
        body = {"root": pki.bundle.to_pem().decode(), "chain": _pem(pki.ca.intermediate)}
        body["key"] = _key(pki.ca.intermediate_key)
        await asyncio.to_thread(operators[0].call, "POST", "/v1/ca/next", body)
        for phase in ("trusting", "issuing"):
            await asyncio.to_thread(operators[0].call, "POST", "/v1/ca/advance", {"from": phase})
        operators.append(Operator(Context(url, ADMIN, pki.bundle.to_pem().decode())))
        for operator in operators:
            answer = await asyncio.to_thread(operator.call, "GET", "/v1/bundle")
            assert answer["fingerprints"] == list(pki.bundle.fingerprints)
        await asyncio.to_thread(operators[1].call, "DELETE", "/v1/ca/retired")
        with pytest.raises(ApiError, match="certificate verify failed"):
            await asyncio.to_thread(operators[0].call, "GET", "/v1/bundle")
