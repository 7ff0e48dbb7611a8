"""The rows of "Disaster" in docs/operations.md and docs/ca.md, rehearsed: what goes on, what brings it back.

A control plane whose CA lies apart from its data, as a Swarm's secrets do, and two whole sidecars that serve.
"""

import asyncio
import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.ca import CertificateAuthority
from certs.store import CaStore
from control_plane.errors import StartRefused
from control_plane.settings import Listen
from tests.helpers.backends import backend
from tests.helpers.control_plane import ADMIN, API, TRUST_DOMAIN, WEB, plane, write_inventory
from tests.helpers.lines import line, options, own_net, pair_inventory, until
from tests.helpers.meshpy_command import meshpy
from tests.helpers.ports import free_port
from tests.helpers.sidecars import Client

NET = own_net()
NO_ORDERS = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-orders, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  action: DENY
  rules: [{to: [{operation: {paths: [/orders]}}]}]
"""
OPEN = NO_ORDERS.replace("/orders", "/nothing")
PHRASE = "correct horse battery"


@dataclass
class Site:
    """What outlives a control plane: its folder, its address, the app behind the mesh."""

    folder: Path
    settings: dict[str, object]
    app_port: int

    def plane(self, **changes: object):
        return plane(self.folder, **self.settings | changes)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    async def asked(self, path: str) -> int:
        """The status that web's app gets from api."""
        async with await Client.connect(self.app_port, f"{NET}.9") as client:
            return (await client.get(path)).status

    async def served(self) -> tuple[int, int]:
        """Of a path that is open and of one that is denied."""
        return await self.asked("/"), await self.asked("/orders")


@pytest.fixture
async def site(tmp_path):
    CaStore(tmp_path / "ca").load_or_create(TRUST_DOMAIN, datetime.now(UTC))
    (tmp_path / "phrase").write_text(PHRASE)
    settings = {"ca_dir": tmp_path / "ca", "sidecar_listen": Listen("127.0.0.1", free_port())}
    async with backend() as app:
        write_inventory(tmp_path / "inventory.json", pair_inventory(app.port, NET))
        yield Site(tmp_path, settings, app.port)


@contextlib.asynccontextmanager
async def pair(mesh):
    """api's and web's sidecars, serving; they outlive the control plane that they began with."""
    async with (
        line(await options(mesh, API), (f"{NET}.5", 15443)) as (api, _),
        line(await options(mesh, WEB), (f"{NET}.6", 15443)) as (web, client),
    ):
        await until(lambda: api.is_ready and web.is_ready)
        yield api, web, client


async def states(mesh) -> list[str]:
    rows = (await mesh.call("GET", "/v1/sidecars"))[1]["sidecars"]
    return sorted(row["state"] for row in rows if row["state"] != "DISCONNECTED")


async def until_states(mesh, *wanted: str) -> None:
    async with asyncio.timeout(15):
        while await states(mesh) != list(wanted):  # noqa: ASYNC110 - what others do has no event
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def enforced(site):
    """Both sidecars under revision 3, which closes what revision 1 left open; the control plane has gone.

    `older` has the data as they were at revision 1, `older by one` at 2, `policies.json` the backup of 3.
    """
    async with contextlib.AsyncExitStack() as lines:
        async with site.plane() as mesh:
            await mesh.put(OPEN)
        shutil.copytree(site.data, site.folder / "older")
        async with site.plane() as mesh:
            await mesh.put(OPEN, OPEN.replace("no-orders", "first-try"))
        shutil.copytree(site.data, site.folder / "older by one")
        async with site.plane() as mesh:
            sidecars = await lines.enter_async_context(pair(mesh))
            await mesh.put(NO_ORDERS)
            await until(lambda: all(each.snapshot.value.revision == 3 for each in sidecars[:2]))
            code, backup, err = await meshpy(mesh, "get", "-o", "json", token=ADMIN)
            assert code == 0, err
        (site.folder / "policies.json").write_text(backup)
        assert await site.served() == (200, 403)
        yield sidecars


@pytest.mark.parametrize(("left", "revisions"), [("", 0), ("older", 1), ("older by one", 2)])
async def test_a_lost_volume_opens_nothing_and_the_backup_brings_it_back(site, left, revisions):
    """Sidecars keep what they hold and are STALE; `meshpy apply --prune -f policies.json` ends it."""
    async with enforced(site):
        shutil.rmtree(site.data)
        if left:
            shutil.copytree(site.folder / left, site.data)
        async with site.plane() as mesh:
            await until_states(mesh, "STALE", "STALE")
            assert await site.served() == (200, 403)
            code, out, err = await meshpy(mesh, "history", "-o", "json", token=ADMIN)
            assert code == 0, err
            assert len(json.loads(out)["revisions"]) == revisions
            async with mesh.stream(await mesh.enrol(API, task="new"), task="new") as fresh:
                await fresh.take()  # who starts anew knows of no policy that was lost
                assert '"/orders"' not in json.dumps(fresh.snapshot)
            backup = str(site.folder / "policies.json")
            code, _, err = await meshpy(mesh, "apply", "--prune", "-f", backup, token=ADMIN)
            assert code == 0, err
            await until_states(mesh, "SYNCED", "SYNCED")
            assert await site.served() == (200, 403)


async def test_the_only_managers_disk_is_lost_and_the_names_come_back_under_a_new_ca(site):
    """What runs on other machines serves on; what is deployed anew has the same names and the policies."""
    async with enforced(site):
        for lost in (site.data, site.folder / "ca"):
            shutil.rmtree(lost)
        for token in site.folder.glob("*.join"):
            token.unlink()
        CaStore(site.folder / "ca").load_or_create(TRUST_DOMAIN, datetime.now(UTC))
        async with site.plane() as mesh:
            assert await site.served() == (200, 403)
            assert await states(mesh) == []  # those of before believe in another root
            backup = str(site.folder / "policies.json")
            code, _, err = await meshpy(mesh, "apply", "--prune", "-f", backup, token=ADMIN)
            assert code == 0, err
            async with line(await options(mesh, API), (f"{NET}.7", 15443)) as (again, _):
                await until(lambda: again.is_ready)
                assert str(again.credentials.value.identity.spiffe_id) == (
                    f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/api"
                )


async def test_after_a_rotation_the_last_export_stands_for_data_that_are_lost(site):
    """Sidecars that run take up the line again: the secrets of the installation know the old root alone."""
    async with contextlib.AsyncExitStack() as lines:
        async with site.plane() as mesh:
            _, web, _ = await lines.enter_async_context(pair(mesh))
            before = web.credentials.value.bundle.roots
            context = site.folder / "operator.json"
            context.write_text(json.dumps({"url": mesh.operator, "token": ADMIN}))
            for words in (
                ("rotate", "--wait", "20"),
                ("export", str(site.folder / "backup"), "--passphrase-file", str(site.folder / "phrase")),
            ):
                code, _, err = await meshpy(mesh, "ca", *words, token=ADMIN, context=str(context))
                assert code == 0, err
            assert web.credentials.value.bundle.roots != before
        shutil.rmtree(site.data)
        assert await site.asked("/") == 200
        saved = {"ca_dir": site.folder / "backup", "ca_passphrase_file": site.folder / "phrase"}
        async with site.plane(**saved) as mesh:
            await until_states(mesh, "SYNCED", "SYNCED")
            assert await site.asked("/") == 200


async def test_a_new_join_key_ends_the_old_tokens_and_nobody_else(site):
    async with contextlib.AsyncExitStack() as lines:
        async with site.plane() as mesh:
            _, web, client = await lines.enter_async_context(pair(mesh))
            old = await mesh.token(WEB)
        (site.folder / "new-key").write_text("n" * 48)
        async with site.plane(join_key_file=site.folder / "new-key") as mesh:
            await until_states(mesh, "SYNCED", "SYNCED")
            first = web.credentials.value.identity
            client.ask_renewal(0.0)
            await until(lambda: web.credentials.value.identity is not first)
            with pytest.raises(AssertionError, match="token"):
                await mesh.enrol_with(old, WEB, "another")
            await mesh.enrol(WEB, task="redeployed")
            assert await site.asked("/") == 200


async def test_a_ca_that_has_ended_is_named_at_the_start_with_what_to_do(site):
    """Nobody can be issued a certificate, so there is nothing to serve."""
    ended = datetime.now(UTC) - timedelta(days=366)
    authority, _ = CertificateAuthority.create(TRUST_DOMAIN, ended)
    shutil.rmtree(site.folder / "ca")
    CaStore(site.folder / "ca").save(authority, None)
    with pytest.raises(StartRefused, match=r"the intermediate ended at .*docs/operations\.md"):
        async with site.plane():
            pass


async def test_a_clock_that_is_behind_is_named(site, monkeypatch, caplog):
    """By what it lies behind the control plane's, less the minute that certificates allow."""

    class Behind(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(minutes=10)

    async with site.plane() as mesh, pair(mesh) as (_, _, client):
        assert "this clock" not in caplog.text
        monkeypatch.setattr("proxy.control_client.datetime", Behind)
        client.ask_renewal(0.0)
        await until(lambda: "this clock" in caplog.text)
    assert re.search(r"this clock is more than 5[34]\d s behind the control plane's", caplog.text)
