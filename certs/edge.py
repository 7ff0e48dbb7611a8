"""Certificates that a sidecar presents to callers outside of the mesh: read, judged, made into TLS contexts.

They come from the user, not from the mesh's CA: what is wrong with one is told with its file, and a port
whose certificate cannot be used does not open.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from certs.errors import CertError
from certs.tls import CIPHERS

__all__ = ["VERSIONS", "EdgePair", "edge_context", "load_pair"]

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
"""The lowest and the highest that callers outside are ever offered."""

_SKEW = timedelta(minutes=5)
"""A certificate of an issuer whose clock is ahead of ours is none of the future."""


@dataclass(frozen=True, slots=True)
class EdgePair:
    """A certificate with its chain and key, checked against each other.

    Args:
        names: the DNS names of its SAN, lower case.
    """

    certificate: Path
    key: Path
    names: tuple[str, ...]
    not_after: datetime

    def covers(self, host: str) -> bool:
        """Whether callers that check names believe it for a host (RFC 6125 §6.4.3)."""
        parent = host.partition(".")[2]
        return host in self.names or f"*.{parent}" in self.names


def load_pair(certificate: Path, key: Path, now: datetime) -> EdgePair:
    """Read and judge a pair of PEM files.

    Raises:
        CertError: a file is missing, no PEM, encrypted, not of the other, expired, or of the future.
    """
    try:
        chain = x509.load_pem_x509_certificates(_read(certificate))
    except ValueError as error:
        raise CertError(f"{certificate}: no certificate in PEM: {error}") from None
    try:
        private = load_pem_private_key(_read(key), password=None)
    except TypeError:
        raise CertError(f"{key}: the key is encrypted; store it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertError(f"{key}: no private key in PEM: {error}") from None
    leaf = chain[0]
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*spki) != leaf.public_key().public_bytes(*spki):
        raise CertError(f"{key} is not the key of the first certificate in {certificate}")
    if leaf.not_valid_after_utc <= now:
        raise CertError(
            f"{certificate}: the certificate expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
    if leaf.not_valid_before_utc > now + _SKEW:
        raise CertError(f"{certificate}: the certificate is not valid before {leaf.not_valid_before_utc} UTC")
    return EdgePair(certificate, key, _dns_names(leaf), leaf.not_valid_after_utc)


def edge_context(
    pairs: Sequence[EdgePair],
    *,
    alpn: Sequence[str],
    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = VERSIONS,
    roots: Path | None = None,
    is_optional: bool = False,
    ciphers: Sequence[str] = (),
) -> ssl.SSLContext:
    """A server side for callers outside.

    Args:
        versions: the lowest and the highest.
        roots: PEM of those who may have issued a caller's certificate; None asks for none.
        is_optional: callers may come without a certificate.
        ciphers: of TLS 1.2, by OpenSSL's names; empty offers all that are good.

    Raises:
        CertError: OpenSSL refuses a pair or the roots.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = versions
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(":".join((*ciphers, "@SECLEVEL=2")) if ciphers else CIPHERS)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    for pair in pairs:
        try:
            context.load_cert_chain(pair.certificate, pair.key)
        except ssl.SSLError as error:
            raise CertError(f"{pair.certificate}: OpenSSL refuses it: {error.reason}") from None
    if roots is not None:
        context.verify_mode = ssl.CERT_OPTIONAL if is_optional else ssl.CERT_REQUIRED
        # A resumed session would skip the look at the caller's certificate.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        text = _read(roots).decode("ascii", "replace")
        try:
            context.load_verify_locations(cadata=text)
        except (ssl.SSLError, ValueError) as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else error
            raise CertError(f"{roots}: no roots in PEM: {reason}") from None
    return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertError(f"{path}: {error.strerror}") from None


def _dns_names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))
