"""The three certificates of a mesh: root, intermediate and leaf (X509-SVID §2-5, RFC 5280 §4.2).

Pure: the time and the serial number come in as arguments. Signing certificates carry the trust domain as
their URI SAN and cannot authenticate; a leaf carries one URI SAN, nothing of what its holder asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.lifetime import BACKDATE_S
from certs.spiffe import SpiffeId

__all__ = [
    "INTERMEDIATE_LIFETIME",
    "LEAF_TTL_S",
    "MAX_LEAF_TTL_S",
    "ROOT_LIFETIME",
    "build_intermediate",
    "build_leaf",
    "build_root",
    "whole_seconds",
]

ROOT_LIFETIME = timedelta(days=3650)
INTERMEDIATE_LIFETIME = timedelta(days=365)
LEAF_TTL_S = 3600
MAX_LEAF_TTL_S = 24 * 3600

_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def build_root(
    key: ec.EllipticCurvePrivateKey, trust_domain: str, *, now: datetime, serial: int
) -> x509.Certificate:
    """A self-signed root."""
    public = key.public_key()
    name = _ca_name("root", public)
    builder = _window(_certificate(name, name, public, serial), now, whole_seconds(now) + ROOT_LIFETIME)
    return _signing(builder, public, public, trust_domain, path_length=1).sign(key, hashes.SHA256())


def build_intermediate(
    public: ec.EllipticCurvePublicKey,
    trust_domain: str,
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime,
    serial: int,
) -> x509.Certificate:
    """An issuer of leaves only (pathLen 0), which does not outlive its root."""
    not_after = min(whole_seconds(now) + INTERMEDIATE_LIFETIME, root.not_valid_after_utc)
    builder = _certificate(_ca_name("intermediate", public), root.subject, public, serial)
    builder = _signing(
        _window(builder, now, not_after), public, root_key.public_key(), trust_domain, path_length=0
    )
    return builder.sign(root_key, hashes.SHA256())


def build_leaf(
    public: ec.EllipticCurvePublicKey,
    spiffe_id: SpiffeId,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime,
    ttl_s: int,
    serial: int,
    hosts: Sequence[str] = (),
) -> x509.Certificate:
    """An X509-SVID of `spiffe_id`, which does not outlive its issuer.

    The subject is empty, hence the SAN is critical (RFC 5280 §4.2.1.6).

    Args:
        hosts: DNS names beside it (X509-SVID §2 allows them), for clients that know nothing of SPIFFE.
    """
    not_after = min(whole_seconds(now) + timedelta(seconds=ttl_s), issuer.not_valid_after_utc)
    builder = _window(_certificate(x509.Name([]), issuer.subject, public, serial), now, not_after)
    names = [x509.UniformResourceIdentifier(str(spiffe_id)), *map(x509.DNSName, hosts)]
    san = x509.SubjectAlternativeName(names)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(san, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_authority_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def whole_seconds(moment: datetime) -> datetime:
    """`moment` in UTC without its fraction, as a certificate can hold it."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone is no point in time; pass datetime.now(UTC)")
    return moment.astimezone(UTC).replace(microsecond=0)


def _certificate(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, serial: int
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    return builder.public_key(public).serial_number(serial)


def _window(builder: x509.CertificateBuilder, now: datetime, not_after: datetime) -> x509.CertificateBuilder:
    not_before = whole_seconds(now) - timedelta(seconds=BACKDATE_S)
    return builder.not_valid_before(not_before).not_valid_after(not_after)


def _signing(
    builder: x509.CertificateBuilder,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePublicKey,
    trust_domain: str,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(SpiffeId(trust_domain)))])
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(san, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_authority_key(signer), critical=False)
    )


def _ca_name(role: str, public: ec.EllipticCurvePublicKey) -> x509.Name:
    """Names differ by key, so that two roots of one trust domain are told apart while both are trusted."""
    key_id = x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:16]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "meshpy"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{role} {key_id}"),
        ]
    )


def _authority_key(signer: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer)


def _key_usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in wanted for usage in _KEY_USAGES})
