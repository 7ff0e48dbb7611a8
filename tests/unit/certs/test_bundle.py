"""The roots a trust domain believes in."""

import pytest

from certs.bundle import TrustBundle
from certs.errors import CertError
from tests.helpers.pki import mesh_pki


def test_a_bundle_reads_back_in_order_and_each_root_once():
    first, second = mesh_pki().ca.root, mesh_pki().ca.root
    bundle = TrustBundle.of("mesh.test", (first, second, first))
    assert bundle.certificates == (first, second)
    assert TrustBundle.from_pem("mesh.test", bundle.to_pem()) == bundle
    assert len(set(bundle.fingerprints)) == 2


def test_a_bundle_believes_in_somebody():
    with pytest.raises(CertError, match="at least one"):
        TrustBundle("mesh.test", ())


@pytest.mark.parametrize(
    "pem", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_damaged_pem_is_refused(pem):
    with pytest.raises(CertError):
        TrustBundle.from_pem("mesh.test", pem)


def test_a_leaf_is_no_root():
    with pytest.raises(CertError, match="no CA"):
        TrustBundle.from_pem("mesh.test", mesh_pki().identity("shop", "api").chain_pem)
