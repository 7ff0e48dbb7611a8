"""What a peer's certificate must be before it may speak: X509-SVID §2-5, as one pass of named refusals.

OpenSSL verifies signatures, dates, purposes and the chain during the handshake; it knows nothing of SPIFFE
and accepts a leaf without a URI, with two, or of another trust domain. So every handshake is followed by
`validate_leaf`. Pure: DER bytes and `now` come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from certs.bundle import TrustBundle
from certs.errors import PeerRefused, SpiffeIdError
from certs.spiffe import SpiffeId

__all__ = ["validate_chain", "validate_leaf"]

_E = TypeVar("_E", bound=x509.ExtensionType)

_MAX_CHAIN = 8
_MIN_RSA_BITS = 2048
_MIN_EC_BITS = 256
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_HASHLESS = {SignatureAlgorithmOID.ED25519, SignatureAlgorithmOID.ED448}
_UNDERSTOOD = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
}
_BOTH_PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
# What the library raises on hostile bytes: none of it may pass the door of this file.
_UNREADABLE = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


_READ_LIMIT = 1024
_read: dict[bytes, tuple[datetime, datetime, SpiffeId]] = {}
"""From when, until when and whose: of leaves that passed every rule that hangs on their bytes alone. A peer
opens many connections with one."""


def validate_leaf(
    der: bytes, trust_domain: str, now: datetime, *, denied: frozenset[str] = frozenset()
) -> SpiffeId:
    """The identity of a leaf whose chain the TLS handshake has verified.

    Args:
        denied: SPIFFE IDs (`spiffe://…`) that are cut off although their certificates are still valid.

    Raises:
        PeerRefused: any rule is broken.
    """
    known = _read.get(der)
    if known is None:
        certificate, extensions = _opened(der)
        not_before, not_after = _dates(certificate)
        _check_dates(not_before, not_after, now)
        _check_strength(certificate)
        _check_leaf_usage(extensions)
        spiffe_id = _single_id(extensions)
        if len(_read) >= _READ_LIMIT:
            _read.clear()
        _read[der] = (not_before, not_after, spiffe_id)
    else:
        not_before, not_after, spiffe_id = known
        _check_dates(not_before, not_after, now)
    if spiffe_id.trust_domain != trust_domain:
        raise PeerRefused("wrong-trust-domain", f"{spiffe_id} is not of {trust_domain}")
    if not spiffe_id.path:
        raise PeerRefused("no-workload-path", f"{spiffe_id} names a trust domain, not a workload")
    if str(spiffe_id) in denied:
        raise PeerRefused("denied", f"{spiffe_id} is cut off")
    return spiffe_id


def validate_chain(
    chain: Sequence[bytes], bundle: TrustBundle, now: datetime, *, denied: frozenset[str] = frozenset()
) -> SpiffeId:
    """The identity of a chain (DER, leaf first, in order) that ends at a root of the bundle; without OpenSSL.

    Stricter than RFC 5280 path building where an attacker would play: order matters, a critical extension
    that is not understood (name constraints included) refuses.

    Raises:
        PeerRefused: any rule is broken.
    """
    if not 1 <= len(chain) <= _MAX_CHAIN:
        raise PeerRefused("bad-chain", f"{len(chain)} certificates; 1 to {_MAX_CHAIN} are expected")
    certificates = [_opened(der)[0] for der in chain]
    for certificate in certificates:
        _check_strength(certificate)
    for depth, (child, issuer) in enumerate(pairwise(certificates)):
        _check_issuer(issuer, now, intermediates_below=depth)
        _check_signed(child, issuer)
    _check_anchored(certificates[-1], bundle, now, intermediates_below=len(certificates) - 1)
    return validate_leaf(chain[0], bundle.trust_domain, now, denied=denied)


def _opened(der: bytes) -> tuple[x509.Certificate, x509.Extensions]:
    try:
        certificate = x509.load_der_x509_certificate(der)
        version = certificate.version
    except _UNREADABLE as error:
        raise PeerRefused("unreadable-certificate", str(error)[:200]) from error
    if version is not x509.Version.v3:
        raise PeerRefused("unreadable-certificate", "no X.509 version 3")
    try:
        extensions = certificate.extensions
    except _UNREADABLE as error:
        raise PeerRefused("unreadable-extensions", str(error)[:200]) from error
    for extension in extensions:
        # RFC 5280 §4.2: a critical extension that is not processed refuses the certificate.
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise PeerRefused("unknown-critical-extension", extension.oid.dotted_string)
    return certificate, extensions


def _dates(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    try:
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _UNREADABLE as error:
        raise PeerRefused("unreadable-certificate", "its dates") from error


def _check_dates(not_before: datetime, not_after: datetime, now: datetime) -> None:
    if now < not_before:
        raise PeerRefused(
            "not-yet-valid", f"valid from {not_before:%Y-%m-%dT%H:%M:%SZ}, it is {now:%Y-%m-%dT%H:%M:%SZ}"
        )
    if now > not_after:
        raise PeerRefused(
            "expired", f"valid until {not_after:%Y-%m-%dT%H:%M:%SZ}, it is {now:%Y-%m-%dT%H:%M:%SZ}"
        )


def _check_strength(certificate: x509.Certificate) -> None:
    try:
        key = certificate.public_key()
        algorithm = certificate.signature_hash_algorithm
    except _UNREADABLE as error:
        raise PeerRefused("weak-key-or-signature", "unknown algorithm") from error
    match key:
        case rsa.RSAPublicKey():
            is_strong = key.key_size >= _MIN_RSA_BITS
        case ec.EllipticCurvePublicKey():
            is_strong = key.key_size >= _MIN_EC_BITS
        case _:
            is_strong = False
    if not is_strong:
        raise PeerRefused("weak-key", "neither RSA of 2048 bits or more nor EC of 256 bits or more")
    if not isinstance(algorithm, _HASHES) and certificate.signature_algorithm_oid not in _HASHLESS:
        raise PeerRefused("weak-signature", "signed with less than SHA-256")


def _check_leaf_usage(extensions: x509.Extensions) -> None:
    """X509-SVID §4.1, §4.3, §4.4 and §5.2."""
    constraints = _find(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise PeerRefused("is-ca", "a signing certificate does not authenticate")
    usage = _find(extensions, x509.KeyUsage)
    if usage is None:
        raise PeerRefused("no-key-usage", "the keyUsage extension is missing")
    if not usage.critical:
        raise PeerRefused("key-usage-not-critical", "the keyUsage extension is not marked critical")
    if usage.value.key_cert_sign or usage.value.crl_sign:
        raise PeerRefused("signing-key-usage", "keyCertSign or cRLSign on a leaf")
    if not usage.value.digital_signature:
        raise PeerRefused("no-digital-signature", "keyUsage without digitalSignature")
    purposes = _find(extensions, x509.ExtendedKeyUsage)
    if purposes is not None and not set(purposes.value) >= _BOTH_PURPOSES:
        raise PeerRefused("extended-key-usage", "extendedKeyUsage without both serverAuth and clientAuth")


def _single_id(extensions: x509.Extensions) -> SpiffeId:
    """X509-SVID §2: exactly one URI SAN; other kinds of names beside it are allowed and mean nothing here."""
    names = _find(extensions, x509.SubjectAlternativeName)
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    if not uris:
        raise PeerRefused("no-spiffe-id", "no URI SAN")
    if len(uris) > 1:
        raise PeerRefused("two-uris", f"{len(uris)} URI SANs, exactly one is allowed")
    try:
        return SpiffeId.parse(uris[0])
    except SpiffeIdError as error:
        raise PeerRefused("bad-spiffe-id", str(error)) from error


def _check_issuer(issuer: x509.Certificate, now: datetime, *, intermediates_below: int) -> None:
    _check_dates(*_dates(issuer), now)
    _check_strength(issuer)
    constraints = _find(issuer.extensions, x509.BasicConstraints)
    usage = _find(issuer.extensions, x509.KeyUsage)
    if constraints is None or not constraints.critical or not constraints.value.ca:
        raise PeerRefused("bad-chain", "signed by a certificate that is no CA")
    if usage is None or not usage.value.key_cert_sign:
        raise PeerRefused("bad-chain", "signed by a CA without keyCertSign")
    limit = constraints.value.path_length
    if limit is not None and intermediates_below > limit:
        raise PeerRefused("bad-chain", f"{intermediates_below} intermediates under a pathLen of {limit}")


def _check_anchored(
    last: x509.Certificate, bundle: TrustBundle, now: datetime, *, intermediates_below: int
) -> None:
    if last in bundle.roots:
        return
    for root in bundle.roots:
        if last.issuer == root.subject:
            try:
                _check_signed(last, root)
            except PeerRefused:
                continue  # two roots may bear one name
            _check_issuer(root, now, intermediates_below=intermediates_below)
            return
    raise PeerRefused("unknown-authority", "the chain ends at no root of the bundle")


def _check_signed(child: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        child.verify_directly_issued_by(issuer)
    except (InvalidSignature, *_UNREADABLE) as error:
        raise PeerRefused("bad-signature", "not signed by the next certificate of the chain") from error


def _find(extensions: x509.Extensions, kind: type[_E]) -> x509.Extension[_E] | None:
    try:
        return extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
