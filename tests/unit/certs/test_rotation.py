"""A root takes over from another in steps that are values; a brought CA is checked before it may sign."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from certs.brought import brought_issuer, brought_key
from certs.ca import CertificateAuthority
from certs.errors import CertError, StoreError
from certs.keys import generate_key, key_to_pem
from certs.rotation import CaState, Issuer, Phase
from certs.store import CaStore
from tests.helpers.pki import mesh_pki

DOMAIN = "mesh.test"
NOW = datetime.now(UTC).replace(microsecond=0)


def _issuer() -> Issuer:
    ca = mesh_pki(DOMAIN).ca
    return Issuer(ca.root, (ca.intermediate,), ca.intermediate_key)


def test_a_rotation_goes_a_then_both_then_b() -> None:
    a, b = _issuer(), _issuer()
    steps = [CaState(DOMAIN, a)]
    steps.append(steps[-1].begin(b))
    steps.append(steps[-1].advance())
    steps.append(steps[-1].advance())
    assert [step.phase for step in steps] == [Phase.STEADY, Phase.TRUSTING, Phase.ISSUING, Phase.STEADY]
    assert [step.authority.root for step in steps] == [a.root, a.root, b.root, b.root]
    believed = [set(step.authority.bundle.certificates) for step in steps]
    assert believed == [{a.root}, {a.root, b.root}, {a.root, b.root}, {b.root}]
    assert steps[1].bundle_id == steps[2].bundle_id  # nobody has to take it twice
    assert steps[-1].retired == (a,)
    assert steps[-1].forget_retired().retired == ()


def test_a_new_intermediate_under_the_same_root_signs_at_once() -> None:
    pki = mesh_pki(DOMAIN)
    state = CaState.of(pki.ca)
    renewed = CaState.of(pki.ca.with_next_intermediate(pki.root_key, NOW)).issuer
    assert state.begin(renewed).phase is Phase.STEADY
    assert state.begin(renewed).bundle_id == state.bundle_id


def test_steps_out_of_turn_are_refused() -> None:
    state = CaState(DOMAIN, _issuer())
    for wrong in (state.advance, state.abort, state.begin(_issuer()).advance().abort):
        with pytest.raises(CertError):
            wrong()
    with pytest.raises(CertError, match="under way"):
        state.begin(_issuer()).begin(_issuer())
    assert state.begin(_issuer()).abort() == state


def test_a_state_is_stored_whole_and_its_keys_are_encrypted() -> None:
    state = CaState(DOMAIN, _issuer()).begin(_issuer()).with_request(generate_key()).advance()
    text = state.to_json(b"secret")
    assert text.count("ENCRYPTED PRIVATE KEY") == text.count("PRIVATE KEY") > 0
    again = CaState.from_json(text, b"secret")
    assert (again.phase, again.bundle_id, again.issuer.key_id) == (
        state.phase,
        state.bundle_id,
        state.issuer.key_id,
    )
    assert CaState.from_json(again.to_json(b"secret"), b"secret").authority.root == state.authority.root
    for damaged, passphrase in ((text, b"other"), (text[:-9], b"secret"), ("{}", b"secret")):
        with pytest.raises(CertError):
            CaState.from_json(damaged, passphrase)


def test_a_new_root_without_its_key_does_not_take_the_old_roots_key_for_its_own(tmp_path) -> None:
    """The old key is kept under a name of its own; the store loads."""
    old, new = mesh_pki(DOMAIN), mesh_pki(DOMAIN)
    store = CaStore(tmp_path)
    store.save(old.ca, old.root_key)
    store.save(new.ca, None)
    assert store.load(DOMAIN).root == new.ca.root
    assert not (tmp_path / "root.key").exists()
    (aside,) = tmp_path.glob("root-*.key")
    assert aside.read_bytes() == key_to_pem(old.root_key)
    with pytest.raises(StoreError, match=r"root\.key"):
        store.load_root_key()
    store.save(old.ca, old.root_key)
    store.save(new.ca, new.root_key)
    assert store.load_root_key().private_numbers() == new.root_key.private_numbers()


# -- brought along


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _make(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool = True,
    path_length: int | None = None,
    may_sign: bool = True,
    begins: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=30),
    names: list[x509.GeneralName] | None = None,
    constrained: bool = False,
) -> x509.Certificate:
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    usage |= {"digital_signature": not may_sign, "key_cert_sign": may_sign, "crl_sign": may_sign}
    builder = (
        x509.CertificateBuilder(_name(issuer), _name(name), key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW + begins)
        .not_valid_after(NOW + ends)
        .add_extension(x509.BasicConstraints(is_ca, path_length if is_ca else None), critical=True)
        .add_extension(x509.KeyUsage(**usage, encipher_only=False, decipher_only=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if constrained:
        builder = builder.add_extension(x509.NameConstraints([x509.DNSName("corp")], None), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


ROOT, MIDDLE, LOW = generate_key(), generate_key(), generate_key()


def _brought(
    *,
    root: dict | None = None,
    middle: dict | None = None,
    low: dict | None = None,
    key: ec.EllipticCurvePrivateKey = LOW,
    order: tuple[int, ...] = (0, 1),
) -> Issuer:
    """A company's root, policy CA and issuing CA."""
    top = _make("root", ROOT, "root", ROOT, **root or {})
    chain = [
        _make("low", LOW, "middle", MIDDLE, **{"path_length": 0} | (low or {})),
        _make("middle", MIDDLE, "root", ROOT, **middle or {}),
    ]
    pem = b"".join(chain[i].public_bytes(Encoding.PEM) for i in order)
    return brought_issuer(top.public_bytes(Encoding.PEM), pem, key, DOMAIN, datetime.now(UTC))


def test_a_companys_ca_of_three_levels_signs_what_peers_accept() -> None:
    issuer = _brought()
    authority = issuer.authority(DOMAIN, ())
    assert len(authority.above) == 1
    assert CaState.of(authority).issuer.key_id == issuer.key_id


@pytest.mark.parametrize(
    ("changes", "where", "why"),
    [
        ({"key": MIDDLE}, "key", "does not belong to chain certificate 1 (CN=low)"),
        ({"order": (1, 0)}, "key", "does not belong to chain certificate 1 (CN=middle)"),
        ({"order": (0,)}, "chain certificate 1 (CN=low)", "was not signed by root (CN=root)"),
        ({"root": {"path_length": 1}}, "root (CN=root)", "pathLen 1, but 2 CA"),
        ({"middle": {"path_length": 0}}, "chain certificate 2 (CN=middle)", "pathLen 0, but 1 CA"),
        ({"low": {"is_ca": False}}, "chain certificate 1 (CN=low)", "is no CA"),
        ({"middle": {"may_sign": False}}, "chain certificate 2 (CN=middle)", "keyCertSign"),
        ({"low": {"ends": timedelta(seconds=-1)}}, "chain certificate 1 (CN=low)", "ended at"),
        ({"middle": {"begins": timedelta(days=1)}}, "chain certificate 2 (CN=middle)", "begins at"),
        ({"middle": {"constrained": True}}, "chain certificate 2 (CN=middle)", "name constraints"),
        (
            {"low": {"names": [x509.UniformResourceIdentifier("spiffe://other.test")]}},
            "chain certificate 1 (CN=low)",
            "is of spiffe://other.test",
        ),
    ],
)
def test_a_ca_that_peers_would_refuse_is_refused_with_its_certificate(changes, where, why) -> None:
    with pytest.raises(CertError) as refused:
        _brought(**changes)
    assert str(refused.value).startswith(f"{where}: ")
    assert why in str(refused.value)


def test_roots_that_are_none_and_keys_of_other_kinds_are_refused() -> None:
    ca = mesh_pki(DOMAIN).ca
    pem = ca.intermediate.public_bytes(Encoding.PEM)
    with pytest.raises(CertError, match="chain: holds the root alone"):
        brought_issuer(ca.bundle.to_pem(), ca.bundle.to_pem(), ca.intermediate_key, DOMAIN, NOW)
    with pytest.raises(CertError, match="root: holds 2 certificates"):
        brought_issuer(ca.bundle.to_pem() * 2, pem, ca.intermediate_key, DOMAIN, NOW)
    key = rsa.generate_private_key(65537, 2048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(CertError, match=r"ca\.key: the private key is not an elliptic-curve key"):
        brought_key(text, None, "ca.key")
    with pytest.raises(CertError, match=r"ca\.key: is of the curve secp521r1"):
        brought_key(key_to_pem(ec.generate_private_key(ec.SECP521R1())), None, "ca.key")
    encrypted = key_to_pem(ca.intermediate_key, b"pass")
    assert brought_key(encrypted, b"pass").private_numbers() == ca.intermediate_key.private_numbers()
    with pytest.raises(CertError, match="is the passphrase right"):
        brought_key(encrypted, b"wrong")


def test_a_chain_above_the_intermediate_is_stored_and_sent(tmp_path) -> None:
    authority = _brought().authority(DOMAIN, ())
    CaStore(tmp_path).save(authority, None)
    loaded = CaStore(tmp_path).load(DOMAIN)
    assert isinstance(loaded, CertificateAuthority)
    assert loaded.above == authority.above
