"""Certificate signing requests: proof that the caller holds a key, and nothing else.

The names, extensions and lifetime that a request asks for are never copied: the certificate is built from
the attested identity (`certs.profile`). A request that asks for *another* identity is refused all the same,
because its sender believes to be someone else.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.errors import CsrRefused
from certs.spiffe import SpiffeId

__all__ = ["MAX_CSR_BYTES", "check_csr", "checked_public_key", "csr_to_pem", "make_csr"]

MAX_CSR_BYTES = 16 * 1024

_CURVES = (ec.SECP256R1, ec.SECP384R1)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def checked_public_key(csr: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a PEM or DER request whose sender proved to hold the private one.

    Raises:
        CsrRefused: too large, unreadable, another key than P-256 or P-384, or a bad signature.
    """
    return _checked(csr)[1]


def check_csr(csr: bytes, attested: SpiffeId) -> ec.EllipticCurvePublicKey:
    """The public key of a request, as in `checked_public_key`, that names no other identity than `attested`.

    Raises:
        CsrRefused: as above, or a URI SAN that is not the attested ID, or unreadable extensions.
    """
    request, key = _checked(csr)
    for uri in _requested_uris(request):
        if uri != str(attested):
            raise CsrRefused(f"the request names {uri[:200]!r}, but its sender was attested as {attested}")
    return key


def make_csr(key: ec.EllipticCurvePrivateKey, spiffe_id: SpiffeId) -> bytes:
    """A DER request for `spiffe_id`: what a sidecar sends."""
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(san, critical=True).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def csr_to_pem(der: bytes) -> str:
    """The same request as text."""
    return x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM).decode("ascii")


def _checked(csr: bytes) -> tuple[x509.CertificateSigningRequest, ec.EllipticCurvePublicKey]:
    if len(csr) > MAX_CSR_BYTES:
        raise CsrRefused(f"a request has at most {MAX_CSR_BYTES} bytes, this has {len(csr)}")
    request = _parsed(csr)
    try:
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CsrRefused("the request's public key is unreadable or of an unknown kind") from error
    # The kind of key is judged before its signature: verifying with a 16,384-bit RSA key is an attack on us.
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise CsrRefused("the request's key is neither P-256 nor P-384")
    if not _is_self_signed(request):
        raise CsrRefused("the request is not signed by the key it carries, with SHA-256 or better")
    return request, key


def _parsed(csr: bytes) -> x509.CertificateSigningRequest:
    is_pem = csr.lstrip()[:5] == b"-----"
    if is_pem and csr.count(b"-----BEGIN ") != 1:
        raise CsrRefused("a PEM request is one block, of one request")
    try:
        return x509.load_pem_x509_csr(csr) if is_pem else x509.load_der_x509_csr(csr)
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise CsrRefused("this is no certificate signing request (PKCS #10, PEM or DER)") from error


def _is_self_signed(request: x509.CertificateSigningRequest) -> bool:
    try:
        return isinstance(request.signature_hash_algorithm, _HASHES) and request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _requested_uris(request: x509.CertificateSigningRequest) -> list[str]:
    try:
        san = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CsrRefused("the request's extensions are unreadable") from error
    return san.get_values_for_type(x509.UniformResourceIdentifier)
