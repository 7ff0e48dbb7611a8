"""A CA of the public web's kind, for tests: certificates of names, with keys and dates as asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

__all__ = ["WebCa"]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class WebCa:
    """Writes PEM files into `folder`; its own certificate is `NAME.pem`."""

    folder: Path
    name: str = "web"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        now = datetime.now(UTC)
        subject = _name(f"{self.name} CA")
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def issue(
        self,
        stem: str,
        *names: str,
        subject: str = "",
        days: tuple[float, float] = (-1, 30),
        passphrase: str = "",
    ) -> tuple[Path, Path]:
        """`STEM.crt` and `STEM.key` for DNS names, and URIs where there is a `:`; valid between days."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        san = [x509.UniformResourceIdentifier(n) if ":" in n else x509.DNSName(n) for n in names]
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject or stem))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if san:
            builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=False)
        leaf = builder.sign(self.key, hashes.SHA256())
        certificate, private = self.folder / f"{stem}.crt", self.folder / f"{stem}.key"
        certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
        secret = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
        return certificate, private
