"""What a sidecar keeps on disk, so that it can start while the control plane is away (fail static).

Two files in a directory of mode 0700: `credentials` (certificate, key, roots, own addresses) and `snapshot`
(the configuration in force, deny-list included), each replaced whole. They are sealed (AES-256-GCM) with a
key derived from the join token: on a Swarm that is a secret which is never on a disk, so the disk alone gives
away neither key nor policy, and a file that was changed, cut or made by another service does not open.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from certs.bundle import TrustBundle
from certs.errors import CertError, StoreError
from certs.files import read_file, write_atomic
from certs.identity import Identity
from certs.lifetime import BACKDATE_S
from meshpy.errors import MeshpyError
from meshpy.model.snapshot import Snapshot
from meshpy.wire import decode_snapshot
from proxy.enrolment import Enrolled, own_id
from proxy.options import ControlOptions

__all__ = ["Cache", "CacheRefused", "Cached"]

_CREDENTIALS, _SNAPSHOT = "credentials", "snapshot"
_FORMAT = 1
_PURPOSE = b"meshpy sidecar cache 1"
_NONCE_BYTES = 12
_MAX_HEADER = 4096
_MAX_BYTES = 256 * 1024 * 1024


class CacheRefused(MeshpyError):  # noqa: N818 - a verdict, not a malfunction
    """A file of the cache is not used, or cannot be written; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Cached:
    """What was kept.

    Args:
        printed: the snapshot as it came, to answer the control plane's deltas by.
    """

    enrolled: Enrolled
    snapshot: Snapshot
    printed: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cache:
    """Invariants: nothing is read that others may have written, nothing written that others may read."""

    directory: Path
    options: ControlOptions

    def load(self, now: datetime) -> Cached:
        """What was kept, checked.

        Raises:
            CacheRefused: it is absent, expired, damaged, of another service, or open to others.
        """
        self._check_directory()
        content = self._read(_CREDENTIALS)
        path = self.directory / _CREDENTIALS
        try:
            identity = Identity.from_pem(content["chain"].encode(), content["key"].encode())
            bundle = TrustBundle.from_pem(self.options.trust_domain, content["bundle"].encode())
            addresses = {str(k): tuple(map(str, v)) for k, v in content["addresses"].items()}
        except (CertError, KeyError, AttributeError, TypeError) as error:
            raise CacheRefused(f"{path}: is damaged: {error}") from error
        self._check_identity(path, identity, now)
        printed = self._read(_SNAPSHOT)
        path = self.directory / _SNAPSHOT
        try:
            snapshot = decode_snapshot(printed)
        except MeshpyError as error:
            raise CacheRefused(f"{path}: cannot be used: {error}") from error
        if str(identity.spiffe_id) in snapshot.denied:
            raise CacheRefused(f"{path}: {identity.spiffe_id} is revoked")
        return Cached(Enrolled(identity, bundle, addresses), snapshot, printed)

    def save_credentials(self, enrolled: Enrolled) -> None:
        """Keep these.

        Raises:
            CacheRefused: the disk refuses, or the directory is open to others.
        """
        self._write(
            _CREDENTIALS,
            {
                "chain": enrolled.identity.chain_pem.decode("ascii"),
                "key": enrolled.identity.key_pem.decode("ascii"),
                "bundle": enrolled.bundle.to_pem().decode("ascii"),
                "addresses": {name: list(own) for name, own in enrolled.addresses.items()},
            },
        )

    def save_snapshot(self, printed: Mapping[str, Any]) -> None:
        """Keep this.

        Raises:
            CacheRefused: as above.
        """
        self._write(_SNAPSHOT, printed)

    def _check_identity(self, path: Path, identity: Identity, now: datetime) -> None:
        if identity.spiffe_id != own_id(self.options):
            raise CacheRefused(f"{path}: is of {identity.spiffe_id}, this sidecar is {own_id(self.options)}")
        if identity.not_after <= now:
            raise CacheRefused(f"{path}: its certificate ended at {identity.not_after.isoformat()}")
        if identity.not_before > now + timedelta(seconds=BACKDATE_S):
            begins = identity.not_before.isoformat()
            raise CacheRefused(f"{path}: its certificate begins at {begins}; is this clock behind?")

    def _check_directory(self) -> None:
        """Make it, or see that it is ours alone.

        Raises:
            CacheRefused: it is not.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.directory.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise CacheRefused(f"{self.directory}: is no directory of uid {os.geteuid()}")
            if found.st_mode & 0o077:
                self.directory.chmod(0o700)  # as an engine makes volumes; nothing of ours was in it
        except OSError as error:
            raise CacheRefused(f"{self.directory}: cannot be used: {error.strerror}") from error

    def _read(self, name: str) -> dict[str, Any]:
        path = self.directory / name
        try:
            found = path.lstat()
        except FileNotFoundError as error:
            raise CacheRefused(f"{path}: is absent; nothing was kept yet") from error
        except OSError as error:
            raise CacheRefused(f"{path}: cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise CacheRefused(f"{path}: others may read or write it; it must be a file of ours, mode 0600")
        if found.st_size > _MAX_BYTES:
            raise CacheRefused(f"{path}: has {found.st_size} bytes, more than {_MAX_BYTES}")
        try:
            return self._opened(path, name, read_file(path))
        except StoreError as error:
            raise CacheRefused(str(error)) from error

    def _opened(self, path: Path, name: str, data: bytes) -> dict[str, Any]:
        line, newline, sealed = data.partition(b"\n")
        try:
            if not newline or len(line) > _MAX_HEADER:
                raise ValueError("no header")  # noqa: TRY301 - one way out for all damage
            header = json.loads(line)
            length, nonce = int(header["bytes"]), bytes.fromhex(header["nonce"])
            kind = (header["format"], header["what"])
            owner = (str(header["service"]), str(header["trust_domain"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CacheRefused(f"{path}: is damaged: its first line is not understood") from error
        if kind != (_FORMAT, name):
            raise CacheRefused(f"{path}: is of format {kind[0]!r} and holds {kind[1]!r}; wanted is {name}")
        if owner != (self.options.service, self.options.trust_domain):
            raise CacheRefused(f"{path}: is of {owner[0]} in {owner[1]}, not of {self.options.service}")
        if len(sealed) != length:
            raise CacheRefused(f"{path}: is cut: {len(sealed)} of {length} bytes are there")
        try:
            content = json.loads(AESGCM(self._key()).decrypt(nonce, sealed, line))
        except (InvalidTag, ValueError) as error:
            why = "it was changed, or sealed with another join token"
            raise CacheRefused(f"{path}: does not open: {why}") from error
        if not isinstance(content, dict):
            raise CacheRefused(f"{path}: is damaged: no JSON object")
        return content

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        self._check_directory()
        plain = json.dumps(content, separators=(",", ":")).encode()
        nonce = os.urandom(_NONCE_BYTES)
        header = {
            "format": _FORMAT,
            "what": name,
            "service": self.options.service,
            "trust_domain": self.options.trust_domain,
            "saved": datetime.now(UTC).isoformat(timespec="seconds"),
            "nonce": nonce.hex(),
            "bytes": len(plain) + 16,  # the tag of GCM
        }
        line = json.dumps(header).encode()
        try:
            write_atomic(
                self.directory / name, line + b"\n" + AESGCM(self._key()).encrypt(nonce, plain, line), 0o600
            )
        except StoreError as error:
            raise CacheRefused(str(error)) from error

    def _key(self) -> bytes:
        try:
            token = self.options.token_file.read_bytes().strip()
        except OSError as error:
            file = self.options.token_file
            raise CacheRefused(f"{file}: cannot be read, and seals the cache: {error.strerror}") from error
        return HKDF(hashes.SHA256(), 32, salt=None, info=_PURPOSE).derive(token)
