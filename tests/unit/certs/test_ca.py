"""The authority signs the attested identity with the fixed profile."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from certs.csr import make_csr
from certs.errors import CertError, CsrRefused
from certs.keys import generate_key
from certs.spiffe import SpiffeId
from tests.helpers.issued import assert_fixed_profile
from tests.helpers.pki import mesh_pki

NOW = datetime(2026, 11, 24, 5, 0, 0, 250_000, tzinfo=UTC)
PKI = mesh_pki(now=NOW)
WEB = PKI.id("shop", "web")


def issue(spiffe_id=WEB, now=NOW, ttl_s=3600):
    return PKI.ca.issue(make_csr(generate_key(), spiffe_id), spiffe_id, now, ttl_s)


@pytest.mark.parametrize("ttl_s", [1, 3600, 86_400])
def test_the_profile_reads_back(ttl_s):
    key = generate_key()
    issued = PKI.ca.issue(make_csr(key, WEB), WEB, NOW, ttl_s)
    assert_fixed_profile(issued, PKI.ca, key.public_key(), WEB, NOW, ttl_s)


def test_a_leaf_never_outlives_the_intermediate():
    end = PKI.ca.intermediate.not_valid_after_utc
    assert issue(now=end - timedelta(seconds=100)).not_after == end


@pytest.mark.parametrize("offset", [timedelta(days=-2), timedelta(days=365), timedelta(days=4000)])
def test_nothing_is_signed_outside_the_intermediates_life(offset):
    with pytest.raises(CertError, match=r"not valid before .* is the clock right|ended at"):
        issue(now=NOW + offset)


@pytest.mark.parametrize("ttl_s", [-1, 0, 86_401])
def test_a_lifetime_is_bounded(ttl_s):
    with pytest.raises(CertError, match="seconds"):
        issue(ttl_s=ttl_s)


@pytest.mark.parametrize("text", ["spiffe://other.test/ns/shop/sa/web", "spiffe://mesh.test"])
def test_only_workloads_of_the_trust_domain_are_named(text):
    with pytest.raises(CsrRefused):
        issue(SpiffeId.parse(text))


def test_serial_numbers_differ():
    assert len({issue().serial for _ in range(20)}) == 20


def test_the_next_intermediate_needs_the_roots_key():
    renewed = PKI.ca.with_next_intermediate(PKI.root_key, NOW)
    assert renewed.root == PKI.ca.root
    assert renewed.intermediate != PKI.ca.intermediate
    with pytest.raises(CertError, match="not the key of the root"):
        PKI.ca.with_next_intermediate(generate_key(), NOW)


def test_parts_of_two_authorities_do_not_join():
    other = mesh_pki(now=NOW).ca
    for change in (
        {"root": other.root},
        {"intermediate": other.intermediate},
        {"trust_domain": "other.test"},
    ):
        with pytest.raises(CertError):
            replace(PKI.ca, **change)


def test_the_key_is_not_printed():
    assert "intermediate_key" not in repr(PKI.ca)
