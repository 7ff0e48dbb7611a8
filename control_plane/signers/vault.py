"""Vault's or OpenBao's PKI engine as the CA: `POST /v1/<mount>/sign/<role>`, or `…/sign-verbatim[/<role>]`.

The role must allow our URIs (`allowed_uri_sans=spiffe://<trust domain>/*`), need no common name
(`require_cn=false`), and take EC keys.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from certs.ca import IssuedCertificate
from certs.csr import check_csr, csr_to_pem
from certs.spiffe import SpiffeId
from control_plane.errors import SignerError
from control_plane.signers.checked import Elsewhere, within
from control_plane.signers.request import plain_request

__all__ = ["VaultSigner"]


class VaultSigner(Elsewhere):
    """Args:
    url: of the path to sign by.
    token_file: read at each call: an agent beside us keeps it fresh.
    """

    def __init__(
        self, url: str, token_file: Path, trust_domain: str, roots_file: Path, tls: ssl.SSLContext
    ) -> None:
        super().__init__(trust_domain, roots_file, tls)
        self._url, self._token_file = url, token_file

    async def sign(self, csr: bytes, attested: SpiffeId, ttl_s: int) -> IssuedCertificate:
        within(self._trust_domain, attested)
        check_csr(csr, attested)
        body = {
            "csr": csr_to_pem(plain_request(csr, attested)),
            "ttl": f"{ttl_s}s",
            "format": "pem",
            "uri_sans": str(attested),
            "exclude_cn_from_sans": True,
        }
        if "/sign-verbatim" in self._url:  # it takes names from the request, usages from here
            body |= {"key_usage": ["DigitalSignature"], "ext_key_usage": ["ServerAuth", "ClientAuth"]}
        said = await self._post(self._url, body, {"X-Vault-Token": self._token()})
        data = said.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("certificate"), str):
            raise SignerError(f"{self._url}: its answer holds no `data.certificate`")
        above = data.get("ca_chain") or [data.get("issuing_ca") or ""]
        pem = "\n".join([data["certificate"], *map(str, above)])
        return self._checked(self._url, pem, csr, attested, ttl_s)

    def describe(self) -> str:
        return f"Vault at {self._url}"

    def _token(self) -> str:
        try:
            return self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SignerError(f"the token {self._token_file} cannot be read: {error}") from error
