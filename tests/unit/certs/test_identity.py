"""An identity on disk, and when it is renewed."""

from datetime import UTC, datetime, timedelta

import pytest

from certs.errors import CertError, StoreError
from certs.identity import Identity, load_bundle
from certs.keys import generate_key, key_to_pem
from certs.lifetime import renew_at
from tests.helpers.pki import mesh_pki

PKI = mesh_pki()


def test_an_identity_reads_back_and_its_key_is_private(tmp_path):
    saved = PKI.save_identity(tmp_path, "shop", "api")
    loaded = Identity.load(tmp_path)
    assert loaded.spiffe_id == saved.spiffe_id == PKI.id("shop", "api")
    assert loaded.chain_pem == saved.chain_pem
    assert load_bundle(tmp_path, "mesh.test") == PKI.bundle
    modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    assert modes == {"tls.key": 0o600, "tls.crt": 0o644, "ca.crt": 0o644}


@pytest.mark.parametrize("name", ["tls.key", "tls.crt"])
@pytest.mark.parametrize("content", [None, b"", b"junk"], ids=["missing", "empty", "junk"])
def test_a_bad_file_is_named(tmp_path, name, content):
    PKI.save_identity(tmp_path, "shop", "api")
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=name):
        Identity.load(tmp_path)


def test_the_key_must_be_the_certificates():
    with pytest.raises(CertError, match="not of this key"):
        Identity.from_pem(PKI.identity("shop", "api").chain_pem, key_to_pem(generate_key()))


def test_renewal_falls_in_the_middle_of_the_life():
    now = datetime(2026, 11, 24, 5, 0, tzinfo=UTC)
    identity = mesh_pki(now=now).identity("shop", "api", 3600, now)
    assert renew_at(identity, 0) == now + timedelta(seconds=1620)
    assert timedelta(seconds=1975) < renew_at(identity, 0.999) - now < timedelta(seconds=1980)
    for jitter in (-0.1, 1, 2):
        with pytest.raises(ValueError, match="jitter"):
            renew_at(identity, jitter)
