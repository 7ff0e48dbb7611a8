"""What a certificate of any form says and whether it is an X509-SVID (§2 to §5), by the X.509 library.

OpenSSL verifies signatures, dates, purposes and the chain during the handshake; it knows nothing of SPIFFE
and accepts a leaf without a URI, with two, or of another trust domain. Pure: DER bytes come in.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from certs.errors import PeerRefused, SpiffeIdError
from certs.spiffe import SpiffeId

__all__ = ["UNREADABLE", "check_strength", "dates_of", "extension_of", "open_certificate", "read_leaf"]

_E = TypeVar("_E", bound=x509.ExtensionType)

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
UNREADABLE = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


def read_leaf(der: bytes) -> tuple[datetime, datetime, SpiffeId]:
    """From when, until when and whose, of a leaf that keeps every rule that hangs on its bytes alone.

    Raises:
        PeerRefused: it breaks one.
    """
    certificate, extensions = open_certificate(der)
    not_before, not_after = dates_of(certificate)
    check_strength(certificate)
    _check_leaf_usage(extensions)
    return not_before, not_after, _single_id(extensions)


def open_certificate(der: bytes) -> tuple[x509.Certificate, x509.Extensions]:
    """A certificate that can be read whole.

    Raises:
        PeerRefused: it cannot, or has a critical extension that is not understood.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        version = certificate.version
    except UNREADABLE as error:
        raise PeerRefused("unreadable-certificate", str(error)[:200]) from error
    if version is not x509.Version.v3:
        raise PeerRefused("unreadable-certificate", "no X.509 version 3")
    try:
        extensions = certificate.extensions
    except UNREADABLE as error:
        raise PeerRefused("unreadable-extensions", str(error)[:200]) from error
    for extension in extensions:
        # RFC 5280 §4.2: a critical extension that is not processed refuses the certificate.
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise PeerRefused("unknown-critical-extension", extension.oid.dotted_string)
    return certificate, extensions


def dates_of(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """From when until when.

    Raises:
        PeerRefused: they cannot be read.
    """
    try:
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except UNREADABLE as error:
        raise PeerRefused("unreadable-certificate", "its dates") from error


def check_strength(certificate: x509.Certificate) -> None:
    """Key and signature are of today.

    Raises:
        PeerRefused: one is not.
    """
    try:
        key = certificate.public_key()
        algorithm = certificate.signature_hash_algorithm
    except UNREADABLE as error:
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
    constraints = extension_of(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise PeerRefused("is-ca", "a signing certificate does not authenticate")
    usage = extension_of(extensions, x509.KeyUsage)
    if usage is None:
        raise PeerRefused("no-key-usage", "the keyUsage extension is missing")
    if not usage.critical:
        raise PeerRefused("key-usage-not-critical", "the keyUsage extension is not marked critical")
    if usage.value.key_cert_sign or usage.value.crl_sign:
        raise PeerRefused("signing-key-usage", "keyCertSign or cRLSign on a leaf")
    if not usage.value.digital_signature:
        raise PeerRefused("no-digital-signature", "keyUsage without digitalSignature")
    purposes = extension_of(extensions, x509.ExtendedKeyUsage)
    if purposes is not None and not set(purposes.value) >= _BOTH_PURPOSES:
        raise PeerRefused("extended-key-usage", "extendedKeyUsage without both serverAuth and clientAuth")


def _single_id(extensions: x509.Extensions) -> SpiffeId:
    """X509-SVID §2: exactly one URI SAN; other kinds of names beside it are allowed and mean nothing here."""
    names = extension_of(extensions, x509.SubjectAlternativeName)
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    if not uris:
        raise PeerRefused("no-spiffe-id", "no URI SAN")
    if len(uris) > 1:
        raise PeerRefused("two-uris", f"{len(uris)} URI SANs, exactly one is allowed")
    try:
        return SpiffeId.parse(uris[0])
    except SpiffeIdError as error:
        raise PeerRefused("bad-spiffe-id", str(error)) from error


def extension_of(extensions: x509.Extensions, kind: type[_E]) -> x509.Extension[_E] | None:
    """None where there is none."""
    try:
        return extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
