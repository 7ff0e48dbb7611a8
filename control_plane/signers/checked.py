"""What a CA elsewhere gave is compared with what was asked for, before anybody gets it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.serialization import Encoding

from certs.bundle import TrustBundle
from certs.ca import IssuedCertificate
from certs.certificates import certificates_from_pem
from certs.chain import validate_chain
from certs.csr import check_csr
from certs.errors import CertError, PeerRefused
from certs.keys import same_public_key
from certs.spiffe import SpiffeId
from control_plane.errors import SignerError, StartRefused

__all__ = ["Elsewhere", "tls_to", "within"]

TIMEOUT = aiohttp.ClientTimeout(total=10.0, connect=3.0)
MAX_ANSWER = 256 * 1024
SLACK_S = 300
"""How much longer than asked a certificate may live, and earlier it may begin: issuers round and backdate."""


class Elsewhere:
    """What signers elsewhere share: the roots, which an operator lists in a file, and the comparison.

    Args:
        roots_file: PEM; read again when it changes.
        tls: by which the CA's server is known.

    Raises:
        StartRefused: the file holds no roots.
    """

    def __init__(self, trust_domain: str, roots_file: Path, tls: ssl.SSLContext) -> None:
        self._trust_domain, self._roots_file, self._tls = trust_domain, roots_file, tls
        try:
            self._bundle = self._read()
        except SignerError as error:
            raise StartRefused(str(error)) from error

    @property
    def bundle(self) -> TrustBundle:
        return self._bundle

    async def follow(self) -> bool:
        """Read the roots again.

        Raises:
            SignerError: they cannot be read; those known stay.
        """
        found = await asyncio.to_thread(self._read)
        changed = found != self._bundle
        self._bundle = found
        return changed

    def _read(self) -> TrustBundle:
        try:
            return TrustBundle.from_pem(self._trust_domain, self._roots_file.read_bytes())
        except OSError as error:
            raise SignerError(f"{self._roots_file}: cannot be read: {error.strerror}") from error
        except CertError as error:
            raise SignerError(f"{self._roots_file}: {error}") from error

    async def _post(self, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        try:
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT) as http,
                http.post(url, json=body, headers=headers, ssl=self._tls, allow_redirects=False) as answer,
            ):
                text = (await answer.content.read(MAX_ANSWER)).decode("utf-8", "replace")
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise SignerError(f"{url}: cannot be reached: {str(error) or type(error).__name__}") from error
        if status not in (200, 201):
            raise SignerError(f"{url}: {status} {_sentence(text)}")
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise SignerError(f"{url}: its answer is no JSON object")
        return said

    def _checked(self, who: str, pem: str, csr: bytes, attested: SpiffeId, ttl_s: int) -> IssuedCertificate:
        """The certificate, when it is the one that was asked for.

        Raises:
            SignerError: it is another.
        """
        now = datetime.now(UTC)
        try:
            roots = self._bundle.certificates
            chain = [each for each in certificates_from_pem(pem.encode()) if each not in roots]
            found = validate_chain([each.public_bytes(Encoding.DER) for each in chain], self._bundle, now)
        except (CertError, PeerRefused) as error:
            raise SignerError(f"{who}: peers would refuse what it signed: {error}") from error
        leaf = chain[0]
        if found != attested:
            raise SignerError(f"{who}: signed {found}, asked for was {attested}")
        if not same_public_key(leaf.public_key(), check_csr(csr, attested)):
            raise SignerError(f"{who}: signed another key than the request's")
        latest = now + timedelta(seconds=ttl_s + SLACK_S)
        if leaf.not_valid_after_utc > latest:
            ends = leaf.not_valid_after_utc.isoformat()
            raise SignerError(f"{who}: signed until {ends}, asked for were {ttl_s} s; bound its role")
        text = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
        return IssuedCertificate(
            text, attested, leaf.not_valid_before_utc, leaf.not_valid_after_utc, leaf.serial_number
        )


def within(trust_domain: str, attested: SpiffeId) -> None:
    """Nothing, when it is a workload of the trust domain.

    Raises:
        SignerError: it is not.
    """
    if attested.trust_domain != trust_domain or not attested.path:
        raise SignerError(f"{attested} is not a workload of the trust domain {trust_domain}")


def tls_to(roots_file: Path | None) -> ssl.SSLContext:
    """TLS to a CA's server: its name and certificate are checked, by these roots or the system's.

    Raises:
        StartRefused: they cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=roots_file)
    except (OSError, ssl.SSLError) as error:
        raise StartRefused(f"--ca-signer-tls-file {roots_file} cannot be read: {error}") from error


def _sentence(text: str) -> str:
    """What Vault (`errors`) and step-ca (`message`) say, else the beginning."""
    try:
        said = json.loads(text)
        return str(said.get("message") or "; ".join(map(str, said.get("errors", []))))[:300] or text[:200]
    except (ValueError, AttributeError, TypeError):
        return text[:200]
