"""Keys of token issuers: fetched over real HTTPS, kept, replaced, and sent to sidecars."""

from __future__ import annotations

import asyncio
import json
import ssl

import pytest

from control_plane.errors import StartRefused
from control_plane.jwks import issuer_keys
from control_plane.jwks.errors import KeysError
from control_plane.jwks.fetch import MAX_BYTES, Fetcher
from control_plane.jwks.guard import Guard
from meshpy.wire import decode_snapshot
from tests.helpers.control_plane import plane
from tests.helpers.issuer import issuer, server_certificate
from tests.helpers.tokens import jwks, key

KEYS, NEXT = jwks(key("ES256", "one")), jwks(key("ES256", "two"))


@pytest.fixture
async def idp(tmp_path):
    async with issuer(tmp_path / "idp") as one:
        one.answers["/jwks"] = KEYS
        yield one


def fetcher(idp, *allowed: str) -> Fetcher:
    return Fetcher(
        Guard.of(allowed or ("localhost", "127.0.0.1")), ssl.create_default_context(cafile=idp.ca_file)
    )


async def refusal(one: Fetcher, uri: str, timeout_s: float = 5.0) -> str:
    with pytest.raises(KeysError) as caught:
        await one.fetch(uri, timeout_s)
    return str(caught.value)


async def test_a_key_set_is_fetched_and_an_openid_configuration_followed(idp):
    one = fetcher(idp)
    assert await one.fetch(f"{idp.url}/jwks", 5) == KEYS
    path = "/realm/.well-known/openid-configuration"
    configuration = {"issuer": f"{idp.url}/realm", "jwks_uri": f"{idp.url}/jwks"}
    idp.answers[path] = json.dumps(configuration)
    assert await one.fetch(idp.url + path, 5) == KEYS
    idp.answers[path] = json.dumps({**configuration, "issuer": "https://other"})
    assert "another issuer" in await refusal(one, idp.url + path)
    idp.answers[path] = json.dumps({**configuration, "jwks_uri": "http://169.254.169.254/keys"})
    assert "no https URL" in await refusal(one, idp.url + path)
    idp.answers[path] = json.dumps({**configuration, "jwks_uri": "https://169.254.169.254/keys"})
    assert "not public" in await refusal(one, idp.url + path)


async def test_nobody_inside_is_asked_unless_the_operator_allowed_it(idp):
    strict = fetcher(idp, "example.com")
    port = idp.port
    for host in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"):
        assert "not public" in await refusal(strict, f"https://{host}:{port}/jwks"), host
    for host in ("2130706433", "127.1", "0177.0.0.1"):
        assert "canonical" in await refusal(strict, f"https://{host}:{port}/jwks"), host
    assert "no https URL" in await refusal(strict, f"http://localhost:{port}/jwks")
    assert "no https URL" in await refusal(strict, "file:///etc/passwd")
    assert idp.asked == []


async def test_redirects_are_not_followed_and_only_a_good_answer_counts(idp):
    one = fetcher(idp)
    for status in (301, 302, 307, 404, 500):
        idp.answers["/x"] = status
        assert str(status) in await refusal(one, f"{idp.url}/x")
    assert "/jwks" not in idp.asked
    for text, says in (
        ("<html>", "is no JSON"),
        ('{"keys": []}', "has no `keys`"),
        ('{"keys": [{"kty": "oct", "k": "AAAA"}]}', "shared secret"),
        ("x" * (MAX_BYTES + 1), "longer than"),
    ):
        idp.answers["/x"] = text
        assert says in await refusal(one, f"{idp.url}/x")
    idp.delay_s = 2.0
    assert "no answer in time" in await refusal(one, f"{idp.url}/jwks", 0.1)


async def test_a_server_that_cannot_prove_its_name_is_refused(idp, tmp_path):
    other, _ = server_certificate(tmp_path / "other")
    one = Fetcher(Guard.of(["localhost"]), ssl.create_default_context(cafile=other))
    assert "certificate is refused" in await refusal(one, f"{idp.url}/jwks")
    assert idp.asked == []


def policy(idp) -> str:
    return f"""\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: jwt, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: api}}}}
  jwtRules: [{{issuer: me, jwksUri: '{idp.url}/jwks'}}]
"""


async def _issuer_row(mesh):
    return (await mesh.call("GET", "/v1/status"))[1]["issuers"][0]


async def test_keys_reach_sidecars_are_replaced_and_survive_the_issuer_and_a_restart(
    idp, tmp_path, monkeypatch
):
    """Refreshed every 50 ms here, every 20 minutes otherwise."""
    monkeypatch.setattr(issuer_keys, "REFRESH_S", 0.05)
    monkeypatch.setattr(issuer_keys, "_RETRY_S", (0.05,))
    monkeypatch.setattr(issuer_keys, "_POLL_S", 0.02)
    settings = {"jwks_allow": ("localhost",), "jwks_ca_file": idp.ca_file}

    async def until(sidecar, keys):
        async with asyncio.timeout(5):
            while sidecar.snapshot is None or decode_snapshot(sidecar.snapshot).jwt[0].jwks != keys:
                await sidecar.take()

    async with plane(tmp_path, **settings) as mesh:
        await mesh.put(policy(idp))
        async with mesh.stream(await mesh.enrol()) as sidecar:
            await until(sidecar, KEYS)
            idp.answers["/jwks"] = NEXT
            await until(sidecar, NEXT)
            idp.answers["/jwks"] = 503
            async with asyncio.timeout(5):
                while not (row := await _issuer_row(mesh))["error"]:  # noqa: ASYNC110 - as an operator would
                    await asyncio.sleep(0.02)
            assert (row["uri"], row["keys"], "503" in row["error"]) == (f"{idp.url}/jwks", 1, True)
            assert row["fetched_at"]
    async with plane(tmp_path, **settings) as mesh, mesh.stream(await mesh.enrol()) as sidecar:
        await until(sidecar, NEXT)
        assert (await mesh.put())[0] == 200
        async with asyncio.timeout(5):
            while (await mesh.call("GET", "/v1/status"))[1]["issuers"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_a_wrong_setting_is_told_at_the_start(tmp_path):
    for changes in ({"jwks_allow": ("a/b",)}, {"jwks_ca_file": tmp_path / "none"}):
        with pytest.raises(StartRefused, match="--jwks"):
            async with plane(tmp_path, **changes):
                pass
