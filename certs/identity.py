"""An identity that can speak: a certificate chain with its key, in memory or in a directory.

The directory is what `--identity DIR` names: `tls.crt` (leaf, then intermediates), `tls.key` (mode 0600) and
`ca.crt` (the roots to believe in).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.bundle import TrustBundle, certificates_from_pem
from certs.errors import CertError, PeerRefused, StoreError
from certs.keys import key_from_pem, key_to_pem, same_public_key
from certs.peer import validate_leaf
from certs.profile import BACKDATE_S
from certs.spiffe import SpiffeId
from certs.store import read_file, write_atomic

__all__ = ["Identity", "load_bundle", "renew_after_s", "renew_at", "save_bundle"]

_CHAIN, _KEY, _BUNDLE = "tls.crt", "tls.key", "ca.crt"


@dataclass(frozen=True, slots=True)
class Identity:
    """A leaf with its chain and key; expired ones load too, since the caller decides what to do then."""

    spiffe_id: SpiffeId
    chain_pem: bytes
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    not_before: datetime
    not_after: datetime

    @classmethod
    def from_pem(cls, chain_pem: bytes, key: ec.EllipticCurvePrivateKey) -> Self:
        """Join a chain with its key.

        Raises:
            CertError: the leaf is no X509-SVID, or of another key.
        """
        leaf = certificates_from_pem(chain_pem)[0]
        if not same_public_key(leaf.public_key(), key.public_key()):
            raise CertError("the certificate is not of this key")
        try:
            spiffe_id = _leaf_id(leaf)
        except PeerRefused as error:
            raise CertError(f"the certificate is no X509-SVID: {error}") from error
        return cls(spiffe_id, chain_pem, key, leaf.not_valid_before_utc, leaf.not_valid_after_utc)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `tls.crt` and `tls.key`.

        Raises:
            StoreError: either is missing, damaged or not of the other; the text names the file.
        """
        chain_pem = read_file(directory / _CHAIN)
        pem = read_file(directory / _KEY)
        try:
            key = key_from_pem(pem)
        except CertError as error:
            raise StoreError(f"{directory / _KEY}: {error}") from error
        try:
            return cls.from_pem(chain_pem, key)
        except CertError as error:
            raise StoreError(f"{directory / _CHAIN}: {error}") from error

    def save(self, directory: Path) -> None:
        """Write `tls.key` (0600), then `tls.crt` (0644), each atomically.

        Raises:
            StoreError: the disk refuses.
        """
        write_atomic(directory / _KEY, key_to_pem(self.key), 0o600)
        write_atomic(directory / _CHAIN, self.chain_pem, 0o644)


def load_bundle(directory: Path, trust_domain: str) -> TrustBundle:
    """Read `ca.crt`.

    Raises:
        StoreError: it is missing or holds no root.
    """
    path = directory / _BUNDLE
    try:
        return TrustBundle.from_pem(trust_domain, read_file(path))
    except StoreError:
        raise
    except CertError as error:
        raise StoreError(f"{path}: {error}") from error


def save_bundle(directory: Path, bundle: TrustBundle) -> None:
    """Write `ca.crt` (0644) atomically.

    Raises:
        StoreError: the disk refuses.
    """
    write_atomic(directory / _BUNDLE, bundle.to_pem(), 0o644)


def renew_at(identity: Identity, jitter: float) -> datetime:
    """When to ask for the next certificate: at 45 to 55 % of the time the holder has had it for.

    Args:
        jitter: 0 <= jitter < 1, drawn once per certificate, so that a thousand sidecars do not ask at once.
    """
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter is 0 or more and less than 1, not {jitter}")
    issued = identity.not_before + timedelta(seconds=BACKDATE_S)
    # A foreign issuer may not backdate: a leaf shorter than the cushion counts from its NotBefore.
    start = issued if issued < identity.not_after else identity.not_before
    return start + (identity.not_after - start) * (0.45 + jitter / 10)


def renew_after_s(identity: Identity, now: datetime, jitter: float) -> float:
    """Seconds from the moment a certificate was issued until the next is asked for; at least one.

    They are counted from now and not read from a clock, so a clock that is behind the issuer's changes
    nothing; one that is ahead sees less left, and asks at about half of that.

    Args:
        now: when it came.
        jitter: as for `renew_at`.
    """
    whole = (renew_at(identity, jitter) - identity.not_before).total_seconds() - BACKDATE_S
    left = (identity.not_after - now).total_seconds() / 2
    return max(1.0, min(whole if whole > 0 else left, left * 1.1))


def _leaf_id(leaf: x509.Certificate) -> SpiffeId:
    der = leaf.public_bytes(serialization.Encoding.DER)
    sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = sans.get_values_for_type(x509.UniformResourceIdentifier)
    trust_domain = SpiffeId.parse(uris[0]).trust_domain if uris else ""
    return validate_leaf(der, trust_domain, leaf.not_valid_before_utc)
