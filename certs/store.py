"""A certificate authority on disk: whole files or none, and never a key made up in place of a lost one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.ca import CertificateAuthority
from certs.certificates import certificates_from_pem
from certs.errors import CertError, StoreError
from certs.files import read_file, sync_directory, write_new
from certs.keys import key_from_pem, key_to_pem, same_public_key

__all__ = ["CaStore"]

_T = TypeVar("_T")

_ROOTS = "root.crt"
_INTERMEDIATE = "intermediate.crt"
_KEY = "intermediate.key"
_ROOT_KEY = "root.key"
_FILES = (_ROOTS, _INTERMEDIATE, _KEY, _ROOT_KEY)
_STAGING = ".creating"
_STAGED = ".created"
_NO_ROOT_KEY = "no-root.key"


@dataclass(frozen=True, slots=True)
class CaStore:
    """A certificate authority in a directory.

    `root.crt` (the roots believed in, the issuing one first), `intermediate.crt` (and those above it),
    `intermediate.key` and `root.key`, keys with mode 0600. `root.key` may be taken offline: it is needed only
    to make the next intermediate. Creation is one commit (the rename of a staging directory): a crash leaves
    all or nothing.
    """

    directory: Path
    passphrase: bytes | None = None

    def load_or_create(self, trust_domain: str, now: datetime) -> CertificateAuthority:
        """The stored authority, or a new one if and only if nothing at all is stored.

        Raises:
            StoreError: some files are missing or damaged, or do not belong together; nothing was changed.
        """
        self._recover()
        if any((self.directory / name).exists() for name in _FILES):
            return self.load(trust_domain)
        authority, root_key = CertificateAuthority.create(trust_domain, now)
        self.save(authority, root_key)
        return authority

    def load(self, trust_domain: str) -> CertificateAuthority:
        """The stored authority.

        Raises:
            StoreError: as in `load_or_create`.
        """
        roots = self._read(_ROOTS, certificates_from_pem)
        chain = self._read(_INTERMEDIATE, certificates_from_pem)
        key = self._read(_KEY, self._key)
        if not same_public_key(key.public_key(), chain[0].public_key()):
            raise StoreError(f"{self.directory / _KEY}: is not the key of {_INTERMEDIATE}")
        try:
            authority = CertificateAuthority(
                trust_domain, roots[0], chain[0], key, roots[1:], above=chain[1:]
            )
        except CertError as error:
            raise StoreError(f"{self.directory / _INTERMEDIATE}: {error}") from error
        if (self.directory / _ROOT_KEY).exists():
            self.load_root_key()
        return authority

    def load_root_key(self) -> ec.EllipticCurvePrivateKey:
        """The key of the first root.

        Raises:
            StoreError: it is offline, damaged or the key of another root.
        """
        key = self._read(_ROOT_KEY, self._key)
        if not same_public_key(key.public_key(), self._read(_ROOTS, certificates_from_pem)[0].public_key()):
            raise StoreError(f"{self.directory / _ROOT_KEY}: is not the key of the first root in {_ROOTS}")
        return key

    def save(self, authority: CertificateAuthority, root_key: ec.EllipticCurvePrivateKey | None) -> None:
        """Replace the stored authority in one commit.

        A stored root key that is not passed stays; under another root it is kept as `root-<fingerprint>.key`.

        Raises:
            StoreError: the disk refuses; what was stored before still stands.
        """
        chain = (authority.intermediate, *authority.above)
        files = {
            _ROOTS: authority.bundle.to_pem(),
            _INTERMEDIATE: b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain),
            _KEY: key_to_pem(authority.intermediate_key, self.passphrase),
        }
        if root_key is not None:
            files[_ROOT_KEY] = key_to_pem(root_key, self.passphrase)
        files |= self._root_key_aside(authority, keeps_name=root_key is None)
        staging = self.directory / _STAGING
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._recover()
            staging.mkdir(mode=0o700)
            for name, data in files.items():
                write_new(staging / name, data, 0o600 if name.endswith(".key") else 0o644)
            sync_directory(staging)
            staging.rename(self.directory / _STAGED)
            sync_directory(self.directory)
        except OSError as error:
            raise StoreError(f"{self.directory}: cannot be written: {error.strerror}") from error
        self._recover()

    def _root_key_aside(self, new: CertificateAuthority, *, keeps_name: bool) -> dict[str, bytes]:
        """The key of another root than the new one's, under a name of its own; and that its old name goes."""
        path = self.directory / _ROOT_KEY
        if not path.exists() or not (self.directory / _ROOTS).exists():
            return {}
        old = self._read(_ROOTS, certificates_from_pem)[0]
        if old == new.root:
            return {}
        aside = {f"root-{old.fingerprint(hashes.SHA256()).hex()[:16]}.key": read_file(path)}
        return aside | {_NO_ROOT_KEY: b""} if keeps_name else aside

    def _recover(self) -> None:
        """Finish a committed save, drop an uncommitted one."""
        try:
            _empty(self.directory / _STAGING)
            staged = self.directory / _STAGED
            if staged.is_dir():
                for file in sorted(staged.iterdir(), key=lambda each: each.name == _NO_ROOT_KEY):
                    if file.name == _NO_ROOT_KEY:  # last: the key stands under its other name by now
                        (self.directory / _ROOT_KEY).unlink(missing_ok=True)
                        file.unlink()
                    else:
                        file.replace(self.directory / file.name)
                sync_directory(self.directory)
                staged.rmdir()
        except OSError as error:
            raise StoreError(
                f"{self.directory}: an interrupted write cannot be finished: {error.strerror}"
            ) from error

    def _key(self, pem: bytes) -> ec.EllipticCurvePrivateKey:
        return key_from_pem(pem, self.passphrase)

    def _read(self, name: str, parse: Callable[[bytes], _T]) -> _T:
        path = self.directory / name
        try:
            return parse(read_file(path))
        except StoreError:
            raise
        except CertError as error:
            raise StoreError(f"{path}: {error}") from error


def _empty(directory: Path) -> None:
    if directory.is_dir():
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()
