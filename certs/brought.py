"""A CA that was made elsewhere, checked before it may sign: each refusal says which certificate and why."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certs.bundle import TrustBundle
from certs.certificates import certificates_from_pem
from certs.chain import validate_chain
from certs.csr import make_csr
from certs.errors import CertError, PeerRefused
from certs.identity import Identity
from certs.keys import generate_key, key_from_pem, key_to_pem, same_public_key
from certs.rotation import Issuer
from certs.spiffe import SpiffeId
from certs.tls import client_context, peer_id, server_context

__all__ = ["brought_issuer", "brought_key"]

_E = TypeVar("_E", bound=x509.ExtensionType)
_TRIAL_TTL_S = 3600


def brought_key(pem: bytes, passphrase: bytes | None, where: str = "key") -> ec.EllipticCurvePrivateKey:
    """The key that signs leaves.

    Raises:
        CertError: it cannot be read, or is not of P-256 or P-384.
    """
    try:
        key = key_from_pem(pem, passphrase)
    except CertError as error:
        raise CertError(f"{where}: {error}") from error
    if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        raise CertError(f"{where}: is of the curve {key.curve.name}; bring one of P-256 or P-384")
    return key


def brought_issuer(
    root_pem: bytes,
    chain_pem: bytes,
    key: ec.EllipticCurvePrivateKey,
    trust_domain: str,
    now: datetime,
) -> Issuer:
    """Check a CA as every peer will.

    Args:
        chain_pem: the certificate that signs leaves, then those above it; the root may end it.

    Raises:
        CertError: the first thing that is wrong, with the certificate that it is wrong with.
    """
    root = _one(root_pem, "root")
    chain = tuple(each for each in _all(chain_pem, "chain") if each != root)
    if not chain:
        raise CertError("chain: holds the root alone; leaves are signed by an intermediate, bring one")
    named = [(f"chain certificate {n} ({_name(c)})", c) for n, c in enumerate(chain, 1)]
    named.append((f"root ({_name(root)})", root))
    if not same_public_key(chain[0].public_key(), key.public_key()):
        raise CertError(f"key: does not belong to {named[0][0]}")
    for (below, child), (above, issuer) in pairwise(named):
        _check_signed(below, child, above, issuer)
    _check_signed(*named[-1], *named[-1])
    for depth, (where, certificate) in enumerate(named):
        _check_dates(where, certificate, now)
        _check_ca(where, certificate, below=depth)
        _check_names(where, certificate, trust_domain)
    issuer_found = Issuer(root, chain, key)
    _try_out(issuer_found, trust_domain, now)
    return issuer_found


def _try_out(issuer: Issuer, trust_domain: str, now: datetime) -> None:
    """Sign a leaf and let both judges that peers have look at it: our rules, and OpenSSL in a handshake."""
    spiffe_id, key = SpiffeId.for_service(trust_domain, "mesh-system", "trial"), generate_key()
    authority = issuer.authority(trust_domain, ())
    issued = authority.issue(make_csr(key, spiffe_id), spiffe_id, now, _TRIAL_TTL_S)
    bundle = TrustBundle.of(trust_domain, (issuer.root,))
    try:
        validate_chain([_der(each) for each in certificates_from_pem(issued.chain_pem)], bundle, now)
        _shake_hands(Identity.from_pem(issued.chain_pem, key_to_pem(key)), bundle, trust_domain)
    except PeerRefused as error:
        raise CertError(f"chain: peers would refuse what it signs: {error}") from error
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason
        raise CertError(f"chain: OpenSSL refuses what it signs: {why}") from error


def _shake_hands(identity: Identity, bundle: TrustBundle, trust_domain: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(identity, bundle, alpn=()).wrap_bio(to_client, to_server)
    server = server_context(identity, bundle, alpn=()).wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server, server]
    for _ in range(8):
        for side in waiting:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        if client.version() and server.version() and server.getpeercert(binary_form=True):
            break
    peer_id(server, trust_domain, datetime.now(UTC))


def _all(pem: bytes, where: str) -> tuple[x509.Certificate, ...]:
    try:
        return certificates_from_pem(pem)
    except CertError as error:
        raise CertError(f"{where}: {error}") from error


def _one(pem: bytes, where: str) -> x509.Certificate:
    found = _all(pem, where)
    if len(found) != 1:
        raise CertError(f"{where}: holds {len(found)} certificates; the root is one")
    return found[0]


def _check_signed(below: str, child: x509.Certificate, above: str, issuer: x509.Certificate) -> None:
    try:
        child.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        what = (
            "is not signed by itself, so it is no root" if child == issuer else f"was not signed by {above}"
        )
        raise CertError(f"{below}: {what}") from error


def _check_dates(where: str, certificate: x509.Certificate, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise CertError(f"{where}: begins at {certificate.not_valid_before_utc.isoformat()}")
    if now >= certificate.not_valid_after_utc:
        raise CertError(f"{where}: ended at {certificate.not_valid_after_utc.isoformat()}")


def _check_ca(where: str, certificate: x509.Certificate, *, below: int) -> None:
    constraints = _extension(where, certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise CertError(f"{where}: is no CA (basicConstraints CA:TRUE is missing)")
    if constraints.path_length is not None and constraints.path_length < below:
        raise CertError(
            f"{where}: pathLen {constraints.path_length}, but {below} CA certificates stand below it"
        )
    usage = _extension(where, certificate, x509.KeyUsage)
    if usage is None or not usage.key_cert_sign:
        raise CertError(f"{where}: may not sign certificates (keyUsage keyCertSign is missing)")
    if _extension(where, certificate, x509.NameConstraints) is not None:
        raise CertError(
            f"{where}: carries name constraints, which SPIFFE peers do not evaluate and so refuse; "
            "bring a CA without them"
        )


def _check_names(where: str, certificate: x509.Certificate, trust_domain: str) -> None:
    names = _extension(where, certificate, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    if uris not in ([], [f"spiffe://{trust_domain}"]):
        raise CertError(f"{where}: is of {', '.join(uris)}, not of spiffe://{trust_domain}")


def _extension(where: str, certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CertError(f"{where}: its extensions cannot be read: {error}") from error


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()[:80]


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
