"""An identity that can speak: a certificate chain with its key, in memory or in a directory.

The directory is what `--identity DIR` names: `tls.crt` (leaf, then intermediates), `tls.key` (mode 0600) and
`ca.crt` (the roots to believe in).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

from certs.bundle import TrustBundle
from certs.errors import CertError, KeyRefused, StoreError
from certs.files import read_file, write_atomic
from certs.openssl import is_pair
from certs.pem import from_pem
from certs.plain import PlainCertificate, read_plain
from certs.spiffe import SpiffeId

__all__ = ["Identity", "load_bundle", "save_bundle"]

_CHAIN, _KEY, _BUNDLE = "tls.crt", "tls.key", "ca.crt"


@dataclass(frozen=True, slots=True)
class Identity:
    """A leaf with its chain and key; expired ones load too, since the caller decides what to do then.

    Args:
        key_pem: PKCS #8, not encrypted.
    """

    spiffe_id: SpiffeId
    chain_pem: bytes
    key_pem: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime

    @classmethod
    def from_pem(cls, chain_pem: bytes, key_pem: bytes) -> Self:
        """Join a chain with its key.

        Raises:
            KeyRefused: the key cannot be read, is encrypted, or is none of an elliptic curve.
            CertError: the leaf is no X509-SVID, or of another key.
        """
        leaf = _plain_leaf(chain_pem, key_pem)
        if leaf is not None and leaf.svid is not None:
            return cls(leaf.svid, chain_pem, key_pem, leaf.not_before, leaf.not_after)
        from certs.certificates import read_pair  # noqa: PLC0415 - where something is not plain

        not_before, not_after, spiffe_id, key_pem = read_pair(chain_pem, key_pem)
        return cls(spiffe_id, chain_pem, key_pem, not_before, not_after)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `tls.crt` and `tls.key`.

        Raises:
            StoreError: either is missing, damaged or not of the other; the text names the file.
        """
        chain_pem, key_pem = read_file(directory / _CHAIN), read_file(directory / _KEY)
        try:
            return cls.from_pem(chain_pem, key_pem)
        except KeyRefused as error:
            raise StoreError(f"{directory / _KEY}: {error}") from error
        except CertError as error:
            raise StoreError(f"{directory / _CHAIN}: {error}") from error

    def save(self, directory: Path) -> None:
        """Write `tls.key` (0600), then `tls.crt` (0644), each atomically.

        Raises:
            StoreError: the disk refuses.
        """
        write_atomic(directory / _KEY, self.key_pem, 0o600)
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


def _plain_leaf(chain_pem: bytes, key_pem: bytes) -> PlainCertificate | None:
    """The first of a chain that is plain throughout, with the key that it is of; None otherwise."""
    chain, keys = from_pem(chain_pem, "CERTIFICATE"), from_pem(key_pem, "PRIVATE KEY")
    if chain is None or keys is None or len(keys) != 1:
        return None
    leaf, *above = map(read_plain, chain)
    if leaf is None or leaf.svid is None or not leaf.svid.path or None in above:
        return None
    return leaf if is_pair(chain_pem, key_pem) else None
