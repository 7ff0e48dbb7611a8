"""A token issuer on loopback: real HTTPS, with answers that a test sets and questions that it counts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Issuer", "issuer", "server_certificate"]


def server_certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, 127.0.0.1 and `names`; (certificate, certificate with key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    now = datetime.now(UTC)
    sans = [x509.DNSName(each) for each in ("localhost", *names)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([*sans, x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "issuer.crt").write_bytes(pem)
    (folder / "issuer.pem").write_bytes(pem + secret)
    return folder / "issuer.crt", folder / "issuer.pem"


@dataclass
class Issuer:
    """Args:
    answers: path → text, or a status.
    asked: every path that was asked for.
    """

    port: int = 0
    ca_file: Path = Path()
    answers: dict[str, str | int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    delay_s: float = 0.0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        await asyncio.sleep(self.delay_s)
        answer = self.answers.get(request.path, 404)
        if isinstance(answer, int):
            headers = {"Location": f"{self.url}/jwks"} if 300 <= answer < 400 else {}
            return web.Response(status=answer, headers=headers)
        return web.Response(text=answer)


@asynccontextmanager
async def issuer(folder: Path, *, tls: bool = True) -> AsyncIterator[Issuer]:
    """Serve until the block ends."""
    ca_file, pem = server_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    one = Issuer(ca_file=ca_file)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", one._answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context if tls else None).start()
    one.port = runner.addresses[0][1]
    try:
        yield one
    finally:
        await runner.cleanup()
