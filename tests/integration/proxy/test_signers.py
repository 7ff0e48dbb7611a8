"""A CA elsewhere signs; what it gives is compared with what was asked for, and what it refuses is told."""

import dataclasses
from datetime import timedelta

import pytest

from certs.csr import csr_to_pem, make_csr
from certs.errors import CsrRefused
from certs.keys import generate_key
from certs.spiffe import SpiffeId
from control_plane.errors import SignerError, StartRefused
from control_plane.signers.choose import signer_elsewhere
from control_plane.signers.request import plain_request
from tests.helpers.control_plane import API, TRUST_DOMAIN, WEB, plane, settings
from tests.helpers.hostile_csrs import ATTESTED, hostile_csrs
from tests.helpers.lines import line, options, until
from tests.helpers.outside_ca import ROLE, TOKEN, outside_ca
from tests.helpers.pki import mesh_pki

ID = SpiffeId.for_service(TRUST_DOMAIN, "shop", "api")


@pytest.fixture
async def ca(tmp_path):
    async with outside_ca(mesh_pki(TRUST_DOMAIN)) as running:
        (tmp_path / "roots.pem").write_bytes(running.pki.bundle.to_pem())
        (tmp_path / "token").write_text(TOKEN + "\n")
        (tmp_path / "jwk").write_text(running.jwk())
        yield running


def _said(ca, kind, folder):
    url = {
        "vault": f"vault:{ca.url}/v1/pki/sign/{ROLE}",
        "verbatim": f"vault:{ca.url}/v1/pki/sign-verbatim/{ROLE}",
        "step": f"step:{ca.url}#meshpy",
    }[kind]
    secret = folder / ("jwk" if kind == "step" else "token")
    return {"ca_signer": url, "ca_signer_secret_file": secret, "ca_roots_file": folder / "roots.pem"}


def _signer(ca, kind, folder):
    return signer_elsewhere(dataclasses.replace(settings(folder), **_said(ca, kind, folder)))


KINDS = pytest.mark.parametrize("kind", ["vault", "verbatim", "step"])


@KINDS
async def test_a_whole_mesh_lives_by_certificates_of_a_ca_elsewhere(ca, kind, tmp_path):
    """The control plane's own as well; a sidecar enrols, streams and renews."""
    async with (
        plane(tmp_path, **_said(ca, kind, tmp_path)) as mesh,
        line(await options(mesh, WEB)) as (web, client),
    ):
        await until(lambda: web.is_ready and client.held is not None)
        first = client._enrolled
        client.ask_renewal(0.0)
        await until(lambda: client._enrolled is not first)
        status, answer = await mesh.call("GET", "/v1/ca")
        assert (status, ca.url in answer["signer"]) == (200, True)
        assert answer["roots"][0]["fingerprint"] == ca.pki.bundle.fingerprints[0]
        status, answer = await mesh.call("GET", "/v1/ca/rotation")
        assert (status, "the CA is elsewhere" in answer["detail"]) == (409, True)
        assert ca.calls >= 3


@KINDS
@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (lambda asked: setattr(asked, "uris", [str(ID).replace("api", "admin")]), "asked for was"),
        (lambda asked: asked.uris.append("spiffe://cluster.local/ns/shop/sa/web"), "peers would refuse"),
        (lambda asked: asked.uris.clear(), "peers would refuse"),
        (lambda asked: setattr(asked, "key", generate_key().public_key()), "another key"),
        (lambda asked: setattr(asked, "ends", asked.ends + timedelta(hours=1)), "bound its role"),
        (lambda asked: setattr(asked, "ends", asked.ends - timedelta(hours=1)), "peers would refuse"),
    ],
)
async def test_another_certificate_than_was_asked_for_goes_to_nobody(ca, kind, lie, why, tmp_path):
    signer = _signer(ca, kind, tmp_path)
    assert (await signer.sign(make_csr(generate_key(), ID), ID, 3600)).spiffe_id == ID
    ca.lie = lie
    with pytest.raises(SignerError, match=why):
        await signer.sign(make_csr(generate_key(), ID), ID, 3600)


@KINDS
async def test_a_certificate_under_another_root_goes_to_nobody(ca, kind, tmp_path):
    (tmp_path / "roots.pem").write_bytes(mesh_pki(TRUST_DOMAIN).bundle.to_pem())
    with pytest.raises(SignerError, match="peers would refuse"):
        await _signer(ca, kind, tmp_path).sign(make_csr(generate_key(), ID), ID, 3600)
    with pytest.raises(StartRefused, match="gets no certificate for itself"):
        async with plane(tmp_path, **_said(ca, kind, tmp_path)):
            pass


@pytest.mark.parametrize(
    ("kind", "why"),
    [("vault", "403 permission denied"), ("step", "401 unauthorized: .*key id|Signature|401")],
)
async def test_what_it_refuses_is_told_in_its_words(ca, kind, why, tmp_path):
    (tmp_path / "token").write_text("wrong")
    signer = _signer(ca, kind, tmp_path)
    if kind == "step":
        signer._kid = "k2"
    with pytest.raises(SignerError, match=why):
        await signer.sign(make_csr(generate_key(), ID), ID, 3600)


async def test_one_that_is_away_costs_nobody_what_is_held(ca, tmp_path):
    """Issuing is 503 with the reason; the certificates in force stay."""
    async with plane(tmp_path, **_said(ca, "vault", tmp_path)) as mesh:
        await mesh.enrol(API)
        object.__setattr__(mesh.running.parts.signing.signer, "_url", "http://127.0.0.1:1/v1/pki/sign/x")
        body = {
            "csr": csr_to_pem(make_csr(generate_key(), ID)),
            "service": "shop/api",
            "token": await mesh.token(),
        }
        status, answer = await mesh.ask(body)
        assert (status, "cannot be reached" in answer["detail"]) == (503, True)


async def test_its_roots_are_followed(ca, tmp_path):
    signer = _signer(ca, "vault", tmp_path)
    assert await signer.follow() is False
    new = mesh_pki(TRUST_DOMAIN).bundle
    (tmp_path / "roots.pem").write_bytes(signer.bundle.to_pem() + new.to_pem())
    assert await signer.follow() is True
    assert len(signer.bundle.roots) == 2
    (tmp_path / "roots.pem").write_text("garbage")
    with pytest.raises(SignerError, match=r"roots\.pem"):
        await signer.follow()
    assert len(signer.bundle.roots) == 2


def test_only_requests_that_ask_for_the_identity_alone_are_passed_on():
    """A CA elsewhere may copy what a request asks for."""
    passed = []
    for hostile in hostile_csrs():
        try:
            plain_request(hostile.csr, ATTESTED)
        except CsrRefused:
            continue
        passed.append(hostile.name)
    assert all(name.startswith(("pem-", "compressed-")) for name in passed), passed
    assert plain_request(make_csr(generate_key(), ATTESTED), ATTESTED)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("vault:https://v:8200/pki/sign/mesh", "write vault:"),
        ("step:https://ca:9000", "write vault:"),
        ("acme:https://ca", "write vault:"),
        ("vault:http://vault:8200/v1/pki/sign/mesh", "write https"),
        ("vault:https://v:8200/v1/pki/sign/mesh", "needs --ca-signer-secret-file"),
    ],
)
def test_a_signer_that_is_not_said_whole_stops_the_start(said, why, tmp_path):
    with pytest.raises(StartRefused, match=why):
        signer_elsewhere(dataclasses.replace(settings(tmp_path), ca_signer=said))
