"""Who may speak: each named bad certificate is refused, each good one accepted, over real TLS, both ways."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from functools import cache

import pytest

from certs.chain import validate_chain
from certs.errors import PeerRefused
from certs.peer import validate_leaf
from certs.spiffe import SpiffeId
from certs.tls import client_context, peer_id, server_context, verify_peer
from tests.helpers.bad_certificates import Forge, Presented
from tests.helpers.handshake import Outcome, careless_context, converse


@cache
def forge() -> Forge:
    return Forge()


@cache
def bad() -> dict[str, Presented]:
    return {each.name: each for each in forge().bad()}


@cache
def good() -> dict[str, Presented]:
    return {each.name: each for each in forge().good()}


@cache
def ours(*, serving: bool, allow_tls12: bool = False) -> ssl.SSLContext:
    make = server_context if serving else client_context
    pki = forge().pki
    return make(pki.identity("shop", "api"), pki.bundle, alpn=["http/1.1"], allow_tls12=allow_tls12)


def talk(peer: ssl.SSLContext, *, we_serve: bool, allow_tls12: bool = False) -> Outcome:
    def check(tls: ssl.SSLObject) -> SpiffeId:
        return peer_id(tls, "mesh.test", datetime.now(UTC))

    return converse(ours(serving=we_serve, allow_tls12=allow_tls12), peer, check, we_serve=we_serve)


def assert_silent(outcome: Outcome) -> None:
    assert outcome.peer is None
    assert outcome.error is not None
    assert outcome.received == b""
    assert outcome.sent == b""


BAD_NAMES = sorted(bad())
GOOD_NAMES = sorted(good())
# With TLS 1.2 a server's own OpenSSL finds no cipher for an ECDSA key that may not sign: it sends none.
WITHOUT_DIGITAL_SIGNATURE = {"authority-as-leaf", "no-digital-signature"}
both_ways = pytest.mark.parametrize("we_serve", [True, False], ids=["their-client", "their-server"])
versions = pytest.mark.parametrize("allow_tls12", [False, True], ids=["tls13", "tls12"])


def test_the_set_is_as_wide_as_the_published_one() -> None:
    assert len(BAD_NAMES) >= 36
    assert len(GOOD_NAMES) == 6


@both_ways
@versions
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_certificate_gets_no_byte_through(name: str, *, we_serve: bool, allow_tls12: bool) -> None:
    shown = bad()[name]
    version = ssl.TLSVersion.TLSv1_2 if allow_tls12 else None
    peer = careless_context(
        server=not we_serve, chain_pem=shown.chain_pem, key_pem=shown.key_pem, version=version
    )
    outcome = talk(peer, we_serve=we_serve, allow_tls12=allow_tls12)
    assert_silent(outcome)
    # Refused for the certificate, not because the conversation broke down for another reason.
    if isinstance(outcome.error, PeerRefused):
        assert outcome.error.reason == shown.reason
    elif not (allow_tls12 and not we_serve and name in WITHOUT_DIGITAL_SIGNATURE):
        assert isinstance(outcome.error, ssl.SSLCertVerificationError), outcome.error


@both_ways
@versions
@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_good_certificate_is_heard(name: str, *, we_serve: bool, allow_tls12: bool) -> None:
    shown = good()[name]
    version = ssl.TLSVersion.TLSv1_2 if allow_tls12 else None
    peer = careless_context(
        server=not we_serve, chain_pem=shown.chain_pem, key_pem=shown.key_pem, version=version
    )
    outcome = talk(peer, we_serve=we_serve, allow_tls12=allow_tls12)
    assert outcome.error is None
    assert outcome.peer is not None
    assert outcome.peer.trust_domain == "mesh.test"
    assert outcome.received
    assert outcome.version == ("TLSv1.2" if allow_tls12 else "TLSv1.3")


@both_ways
def test_no_certificate_gets_no_byte_through(*, we_serve: bool) -> None:
    assert_silent(talk(careless_context(server=not we_serve), we_serve=we_serve))


@both_ways
@versions
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["tls10", "tls11"])
def test_old_versions_get_no_byte_through(
    version: ssl.TLSVersion, *, we_serve: bool, allow_tls12: bool
) -> None:
    shown = good()["plain"]
    peer = careless_context(
        server=not we_serve, chain_pem=shown.chain_pem, key_pem=shown.key_pem, version=version
    )
    assert_silent(talk(peer, we_serve=we_serve, allow_tls12=allow_tls12))


@both_ways
def test_tls12_is_refused_unless_allowed(*, we_serve: bool) -> None:
    shown = good()["plain"]
    peer = careless_context(
        server=not we_serve,
        chain_pem=shown.chain_pem,
        key_pem=shown.key_pem,
        version=ssl.TLSVersion.TLSv1_2,
    )
    assert_silent(talk(peer, we_serve=we_serve))


@pytest.mark.parametrize("name", BAD_NAMES)
def test_the_chain_rules_name_each_fault_without_openssl(name: str) -> None:
    shown = bad()[name]
    with pytest.raises(PeerRefused) as refusal:
        validate_chain(shown.chain, forge().pki.bundle, datetime.now(UTC))
    assert refusal.value.reason == shown.reason


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_the_chain_rules_accept_what_openssl_accepts(name: str) -> None:
    validate_chain(good()[name].chain, forge().pki.bundle, datetime.now(UTC))


def test_a_valid_certificate_of_another_service_is_not_the_one_we_dialled() -> None:
    pki = forge().pki
    database = pki.identity("shop", "db")
    peer = server_context(database, pki.bundle, alpn=["http/1.1"])
    expected = frozenset({pki.id("shop", "api")})

    def check(tls: ssl.SSLObject) -> SpiffeId:
        return verify_peer(tls, "mesh.test", datetime.now(UTC), expected=expected)

    outcome = converse(ours(serving=False), peer, check, we_serve=False)
    assert_silent(outcome)
    assert isinstance(outcome.error, PeerRefused)
    assert outcome.error.reason == "unexpected-peer"


def test_a_denied_identity_is_cut_off_while_its_certificate_is_valid() -> None:
    leaf = good()["plain"].chain[0]
    now = datetime.now(UTC)
    found = validate_leaf(leaf, "mesh.test", now)
    with pytest.raises(PeerRefused) as refusal:
        validate_leaf(leaf, "mesh.test", now, denied=frozenset({str(found)}))
    assert refusal.value.reason == "denied"
