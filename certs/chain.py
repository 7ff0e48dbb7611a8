"""Whether a chain leads from an X509-SVID to a root of the bundle, without OpenSSL and its handshake.

For those who sign: they judge what they are about to hand out as each peer will. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs.bundle import TrustBundle
from certs.errors import PeerRefused
from certs.peer import check_dates, validate_leaf
from certs.spiffe import SpiffeId
from certs.svid import UNREADABLE, check_strength, dates_of, extension_of, open_certificate

__all__ = ["validate_chain"]

_MAX_CHAIN = 8


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
    certificates = [open_certificate(der)[0] for der in chain]
    for certificate in certificates:
        check_strength(certificate)
    for depth, (child, issuer) in enumerate(pairwise(certificates)):
        _check_issuer(issuer, now, intermediates_below=depth)
        _check_signed(child, issuer)
    _check_anchored(certificates[-1], bundle, now, intermediates_below=len(certificates) - 1)
    return validate_leaf(chain[0], bundle.trust_domain, now, denied=denied)


def _check_issuer(issuer: x509.Certificate, now: datetime, *, intermediates_below: int) -> None:
    check_dates(*dates_of(issuer), now)
    check_strength(issuer)
    constraints = extension_of(issuer.extensions, x509.BasicConstraints)
    usage = extension_of(issuer.extensions, x509.KeyUsage)
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
    roots = bundle.certificates
    if last in roots:
        return
    for root in roots:
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
    except (InvalidSignature, *UNREADABLE) as error:
        raise PeerRefused("bad-signature", "not signed by the next certificate of the chain") from error
