"""An issuer of JWTs for tests: keys of every accepted type, key sets, tokens signed as the test wants."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["SigningKey", "b64", "claims", "hs256", "jwks", "key", "token"]

ISSUER = "https://idp.test"
_HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
_CURVES = {
    "ES256": ("P-256", ec.SECP256R1, 32),
    "ES384": ("P-384", ec.SECP384R1, 48),
    "ES512": ("P-521", ec.SECP521R1, 66),
}


def b64(data: bytes | str) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _integer(value: int, size: int) -> str:
    return b64(value.to_bytes(size, "big"))


@dataclass(frozen=True)
class SigningKey:
    """A private key and how it signs."""

    alg: str
    kid: str
    private: Any

    def sign(self, data: bytes) -> bytes:
        if self.alg == "EdDSA":
            return self.private.sign(data)
        digest = _HASHES[self.alg[2:]]()
        if self.alg.startswith("ES"):
            size = _CURVES[self.alg][2]
            r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(digest)))
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        scheme = padding.PKCS1v15()
        if self.alg.startswith("PS"):
            scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
        return self.private.sign(data, scheme, digest)

    def public(self, **extra: Any) -> dict[str, Any]:
        """The public key as a JWK."""
        member: dict[str, Any] = {"kid": self.kid, **extra}
        public = self.private.public_key()
        if self.alg == "EdDSA":
            raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
            return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw), **member}
        numbers = public.public_numbers()
        if self.alg.startswith("ES"):
            name, _, size = _CURVES[self.alg]
            point = {"x": _integer(numbers.x, size), "y": _integer(numbers.y, size)}
            return {"kty": "EC", "crv": name, **point, **member}
        size = (numbers.n.bit_length() + 7) // 8
        return {"kty": "RSA", "n": _integer(numbers.n, size), "e": "AQAB", **member}


@cache
def key(alg: str = "ES256", kid: str = "k1") -> SigningKey:
    """A key of this algorithm; the same one whenever the same id is asked for."""
    if alg == "EdDSA":
        return SigningKey(alg, kid, ed25519.Ed25519PrivateKey.generate())
    if alg.startswith("ES"):
        return SigningKey(alg, kid, ec.generate_private_key(_CURVES[alg][1]()))
    return SigningKey(alg, kid, rsa.generate_private_key(65537, 2048))


def jwks(*keys: SigningKey | dict[str, Any]) -> str:
    """A key set."""
    return json.dumps({"keys": [one.public() if isinstance(one, SigningKey) else one for one in keys]})


def claims(**extra: Any) -> dict[str, Any]:
    """Claims of ISSUER for jane."""
    return {"iss": ISSUER, "sub": "jane", **extra}


def token(
    signer: SigningKey, payload: dict[str, Any] | str | None = None, header: dict[str, Any] | None = None
) -> str:
    """A signed token; `header` adds to, or replaces, what the signer would write."""
    head = {"alg": signer.alg, "kid": signer.kid, "typ": "JWT", **(header or {})}
    body = payload if isinstance(payload, str) else json.dumps(claims() if payload is None else payload)
    signed = f"{b64(json.dumps(head))}.{b64(body)}"
    return f"{signed}.{b64(signer.sign(signed.encode()))}"


def hs256(secret: bytes, payload: dict[str, Any], **header: Any) -> str:
    """A token signed with a shared secret, as the confusion attack does it with a public key."""
    signed = f"{b64(json.dumps({'alg': 'HS256', **header}))}.{b64(json.dumps(payload))}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
