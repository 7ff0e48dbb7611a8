"""step-ca as the CA: `POST /1.0/sign` with a one-time token that a JWK provisioner's key signs."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from certs.ca import IssuedCertificate
from certs.csr import check_csr, csr_to_pem
from certs.spiffe import SpiffeId
from control_plane.errors import SignerError, StartRefused
from control_plane.signers.checked import Elsewhere, within
from control_plane.signers.request import plain_request

__all__ = ["StepSigner"]

TOKEN_S = 60
_CURVES: dict[str, tuple[ec.EllipticCurve, str, hashes.HashAlgorithm, int]] = {
    "P-256": (ec.SECP256R1(), "ES256", hashes.SHA256(), 32),
    "P-384": (ec.SECP384R1(), "ES384", hashes.SHA384(), 48),
}


class StepSigner(Elsewhere):
    """Args:
    url: of the CA, without a path.
    provisioner: its name there; of type JWK.
    jwk_file: the provisioner's private key as a JWK (`step crypto jwk decrypt`).
    """

    def __init__(
        self,
        url: str,
        provisioner: str,
        jwk_file: Path,
        trust_domain: str,
        roots_file: Path,
        tls: ssl.SSLContext,
    ) -> None:
        super().__init__(trust_domain, roots_file, tls)
        self._url, self._provisioner = f"{url.rstrip('/')}/1.0/sign", provisioner
        self._kid, self._key, self._curve = _read_jwk(jwk_file)

    async def sign(self, csr: bytes, attested: SpiffeId, ttl_s: int) -> IssuedCertificate:
        within(self._trust_domain, attested)
        check_csr(csr, attested)
        ends = datetime.now(UTC) + timedelta(seconds=ttl_s)
        body = {
            "csr": csr_to_pem(plain_request(csr, attested)),
            "ott": self._token(attested),
            "notAfter": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        said = await self._post(self._url, body, {})
        chain = said.get("certChain") or [said.get("crt"), said.get("ca")]
        if not isinstance(chain, list) or not all(isinstance(each, str) for each in chain):
            raise SignerError(f"{self._url}: its answer holds no `certChain`, `crt` and `ca`")
        return self._checked(self._url, "\n".join(chain), csr, attested, ttl_s)

    def describe(self) -> str:
        return f"step-ca at {self._url}, provisioner {self._provisioner}"

    def _token(self, attested: SpiffeId) -> str:
        now = int(time.time())
        _, algorithm, digest, size = _CURVES[self._curve]
        head = {"alg": algorithm, "kid": self._kid, "typ": "JWT"}
        claims = {
            "iss": self._provisioner,
            "aud": self._url,
            "sub": str(attested),
            "sans": [str(attested)],
            "nbf": now - TOKEN_S,  # a clock that is behind ours takes it too
            "iat": now,
            "exp": now + TOKEN_S,
            "jti": secrets.token_hex(16),
        }
        signed = f"{_b64(json.dumps(head).encode())}.{_b64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(digest)))
        return f"{signed}.{_b64(r.to_bytes(size, 'big') + s.to_bytes(size, 'big'))}"


def _read_jwk(file: Path) -> tuple[str, ec.EllipticCurvePrivateKey, str]:
    try:
        said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        curve = _CURVES[said["crv"]][0]
        key = ec.derive_private_key(int.from_bytes(_unb64(said["d"]), "big"), curve)
        return str(said["kid"]), key, said["crv"]
    except OSError as error:
        raise StartRefused(f"the provisioner's key {file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        what = "is no private EC key as a JWK with `kid`, `crv` and `d`; see `step crypto jwk decrypt`"
        raise StartRefused(f"the provisioner's key {file} {what}") from error


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
