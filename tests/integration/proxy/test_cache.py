"""Fail static: a sidecar that starts while the control plane is away serves by its cache, or says why not."""

import asyncio
import contextlib
import ipaddress
import json
import stat
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.settings import Listen
from meshpy.wire import encode
from proxy.admin import Admin
from proxy.cache import Cache, CacheRefused
from proxy.enrolment import Enrolled
from proxy.net.interfaces import interfaces, moved
from proxy.options import ControlOptions
from tests.helpers.backends import backend
from tests.helpers.control_plane import API, TRUST_DOMAIN, WEB, plane, write_inventory
from tests.helpers.lines import line, options, own_net, pair_inventory, until
from tests.helpers.pki import mesh_pki
from tests.helpers.ports import free_port
from tests.helpers.sidecars import Client, outbound_snapshot

NET = own_net()


@pytest.fixture
async def folder(tmp_path):
    async with backend() as app:
        write_inventory(tmp_path / "inventory.json", pair_inventory(app.port, NET))
        yield tmp_path, app


def _listen():
    return Listen("127.0.0.1", free_port())


async def _kept(folder, name=WEB, **changes):
    """The options of a sidecar that ran once beside its control plane and has a cache."""
    async with plane(folder, **changes) as mesh:
        how = await options(mesh, name, cache=folder / f"{name.name}-cache")
        async with line(how, (f"{NET}.{5 if name == API else 6}", 15443)) as (sidecar, _):
            await until(lambda: sidecar.is_ready and (how.cache / "snapshot").exists())
            return how


def _written(folder):
    """The options of a sidecar with a cache, which nobody runs."""
    pki, cache = mesh_pki(TRUST_DOMAIN), folder / "cache"
    (folder / "web.join").write_text("mj1.a.token")
    how = ControlOptions(
        "127.0.0.1", 1, TRUST_DOMAIN, "shop/web", "t", "n", folder / "web.join", folder, cache
    )
    Cache(cache, how).save_credentials(
        Enrolled(pki.identity("shop", "web"), pki.bundle, {"mesh": ("10.0.0.4",)})
    )
    Cache(cache, how).save_snapshot(encode(outbound_snapshot(9, {}, trust_domain=TRUST_DOMAIN)))
    return how


async def _readyz(sidecar):
    port = free_port()
    server = await asyncio.get_running_loop().create_server(lambda: Admin(sidecar), "127.0.0.1", port)
    async with await Client.connect(port) as client:
        await client.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await client.answer()
    server.close()
    return answer.status, answer.body.decode()


async def test_both_sidecars_restart_and_serve_while_the_control_plane_is_dead(folder):
    """And they are in sync again when it is back, by the stream and with a certificate of that moment."""
    path, app = folder
    sidecars = _listen()
    api, web = [await _kept(path, name, sidecar_listen=sidecars) for name in (API, WEB)]
    for _ in range(2):
        async with line(api, (f"{NET}.5", 15443)) as (one, _), line(web, (f"{NET}.6", 15443)) as (two, _):
            await until(lambda: one.is_ready and two.is_ready)
            async with await Client.connect(app.port, f"{NET}.9") as client:
                assert (await client.get()).status == 200
    async with line(web, (f"{NET}.6", 15443)) as (two, client):
        await until(lambda: two.is_ready)
        assert client._is_from_cache
        kept = client._enrolled
        async with plane(path, sidecar_listen=sidecars) as mesh:
            await until(lambda: client._enrolled is not kept)
            async with asyncio.timeout(10):
                while not (rows := await _synced(mesh)):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert rows[0]["held"] == client.held["version"]


async def _synced(mesh):
    rows = (await mesh.call("GET", "/v1/status"))[1]["sidecars"]
    return [row for row in rows if row["state"] == "SYNCED"]


async def test_without_a_cache_it_fails_closed_and_says_so(folder):
    path, app = folder
    how = await _kept(path)
    for file in how.cache.iterdir():
        file.unlink()
    async with line(how) as (sidecar, _):
        await until(lambda: sidecar.why_closed)
        status, text = await _readyz(sidecar)
        assert status == 503
        assert "no certificate yet: no byte passes" in text
        assert f"the cache is not used: {how.cache / 'credentials'}: is absent" in text
        with pytest.raises(ConnectionError):
            await Client.connect(app.port, f"{NET}.9")


async def test_a_control_plane_that_says_no_is_obeyed_whatever_the_cache_holds(folder):
    """A revoked service cannot come back by a restart, though its cache is good."""
    path, _ = folder
    sidecars = _listen()
    how = await _kept(path, sidecar_listen=sidecars)
    async with plane(path, sidecar_listen=sidecars) as mesh:
        await mesh.call("PUT", "/v1/ca/denied/shop/web")
        async with line(how) as (sidecar, _):
            await until(lambda: sidecar.why_closed)
            await asyncio.sleep(0.5)
            assert not sidecar.is_ready
            assert "403 the identity of shop/web is revoked" in sidecar.why_closed


async def test_the_deny_list_is_in_the_cache(folder):
    path, _ = folder
    sidecars = _listen()
    async with plane(path, sidecar_listen=sidecars) as mesh:
        await mesh.call("PUT", "/v1/ca/denied/shop/api")
    how = await _kept(path, sidecar_listen=sidecars)
    async with line(how) as (sidecar, _):
        await until(lambda: sidecar.is_ready)
        assert sidecar.snapshot.value.denied == {"spiffe://cluster.local/ns/shop/sa/api"}


def test_files_are_ours_alone_and_the_key_is_not_in_them(tmp_path):
    how = _written(tmp_path)
    assert stat.S_IMODE(how.cache.stat().st_mode) == 0o700
    for file in how.cache.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert b"PRIVATE KEY" not in file.read_bytes()
    assert sorted(file.name for file in how.cache.iterdir()) == ["credentials", "snapshot"]


def _truncated(file):
    file.write_bytes(file.read_bytes()[:-7])


def _empty(file):
    file.write_bytes(b"")


def _flipped(file):
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)


def _renamed(file):
    other = file.with_name("snapshot" if file.name == "credentials" else "credentials")
    file.write_bytes(other.read_bytes())


def _foreign(file):
    line, _, rest = file.read_bytes().partition(b"\n")
    header = json.loads(line) | {"service": "shop/other"}
    file.write_bytes(json.dumps(header).encode() + b"\n" + rest)


def _open_to_others(file):
    file.chmod(0o644)


def _link(file):
    target = file.with_name("elsewhere")
    file.rename(target)
    file.symlink_to(target)


@pytest.mark.parametrize("name", ["credentials", "snapshot"])
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_truncated, "is cut"),
        (_empty, "is damaged"),
        (_flipped, "does not open"),
        (_renamed, "holds"),
        (_foreign, "is of shop/other"),
        (_open_to_others, "others may read"),
        (_link, "others may read"),
    ],
)
def test_a_file_that_is_not_as_we_wrote_it_is_refused_by_name(tmp_path, damage, why, name):
    how = _written(tmp_path)
    damage(how.cache / name)
    with pytest.raises(CacheRefused) as refused:
        Cache(how.cache, how).load(datetime.now(UTC))
    assert str(refused.value).startswith(str(how.cache / name))
    assert why in str(refused.value)


def test_an_ended_or_future_certificate_and_another_token_are_refused(tmp_path):
    how = _written(tmp_path)
    cache, now = Cache(how.cache, how), datetime.now(UTC)
    assert cache.load(now).snapshot.workload.name == WEB
    with pytest.raises(CacheRefused, match=r"credentials: its certificate ended at"):
        cache.load(now + timedelta(hours=2))
    with pytest.raises(CacheRefused, match=r"credentials: its certificate begins at .* clock"):
        cache.load(now - timedelta(hours=2))
    how.token_file.write_text("mj1.another.token")
    with pytest.raises(CacheRefused, match=r"credentials: does not open: .* another join token"):
        cache.load(now)
    how.token_file.unlink()
    with pytest.raises(CacheRefused, match=r"web.join: cannot be read, and seals the cache"):
        cache.load(now)


async def test_a_disk_that_refuses_costs_no_request(folder):
    path, app = folder
    (path / "taken").write_text("no directory")
    async with plane(path) as mesh:
        how = await options(mesh, WEB, cache=path / "taken")
        async with line(how, (f"{NET}.6", 15443)) as (sidecar, _):
            await until(lambda: sidecar.is_ready)
            with contextlib.suppress(OSError):
                async with await Client.connect(app.port, f"{NET}.9") as client:
                    await client.get()
            assert sidecar.is_ready


def test_own_addresses_are_found_by_their_networks():
    """A task that was started anew has other addresses on the same networks."""
    now = [ipaddress.IPv4Interface("10.201.0.9/20"), ipaddress.IPv4Interface("10.0.5.3/24")]
    known = {"mesh": ["10.201.0.4"], "pod": ["10.0.5.3"], "gone": ["172.16.0.4"], "local": ["127.0.0.5"]}
    wanted = {"mesh": ("10.201.0.9",), "pod": ("10.0.5.3",), "local": ("127.0.0.5",)}
    assert moved(known, now) == wanted
    assert any(each.ip == ipaddress.ip_address("127.0.0.1") for each in interfaces())
