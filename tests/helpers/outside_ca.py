"""CAs that are not ours: what Vault's PKI engine and step-ca do with a request, by their documents.

Small, but no yes-sayers: they check token and role as the real ones do, sign by a profile of their own, and
answer in the real ones' forms. `lie` changes the certificate before it is signed.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from aiohttp import web
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.helpers.pki import MeshPki

TOKEN, ROLE = "hvs.a-token", "mesh"


@dataclass
class Asked:
    """What is about to be signed; `lie` may change it."""

    key: ec.EllipticCurvePublicKey
    uris: list[str]
    ends: datetime
    subject: str = ""


@dataclass
class OutsideCa:
    """One CA with both faces."""

    pki: MeshPki
    provisioner: ec.EllipticCurvePrivateKey
    lie: Callable[[Asked], None] = lambda _asked: None
    calls: int = 0
    used: set[str] = field(default_factory=set)
    url: str = ""

    def signed(self, asked: Asked) -> str:
        self.lie(asked)
        ca = self.pki.ca
        usage = dict.fromkeys(
            ("content_commitment", "data_encipherment", "key_cert_sign", "crl_sign"), False
        ) | dict.fromkeys(("digital_signature", "key_encipherment", "key_agreement"), True)
        names = [x509.NameAttribute(NameOID.COMMON_NAME, asked.subject)] if asked.subject else []
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer_key = ca.intermediate_key.public_key()
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in asked.uris])
        leaf = (
            x509.CertificateBuilder(ca.intermediate.subject, x509.Name(names), asked.key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(seconds=30))
            .not_valid_after(asked.ends)
            .add_extension(x509.KeyUsage(**usage, encipher_only=False, decipher_only=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(asked.key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
            .add_extension(san, critical=not names)
        )
        return _pem(leaf.sign(ca.intermediate_key, hashes.SHA256()))

    # -- Vault: POST /v1/pki/sign/mesh, /v1/pki/sign-verbatim

    async def vault(self, request: web.Request) -> web.Response:
        self.calls += 1
        body = await request.json()
        if request.headers.get("X-Vault-Token") != TOKEN:
            return web.json_response({"errors": ["permission denied"]}, status=403)
        csr = x509.load_pem_x509_csr(body["csr"].encode())
        if request.match_info["how"] == "sign-verbatim":
            san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = san.get_values_for_type(x509.UniformResourceIdentifier)
        else:
            uris = body["uri_sans"].split(",")
            if not all(uri.startswith(f"spiffe://{self.pki.trust_domain}/") for uri in uris):
                return web.json_response(
                    {"errors": ["URI Subject Alternative Names were provided ..."]}, status=400
                )
        ends = datetime.now(UTC) + timedelta(seconds=int(body["ttl"].removesuffix("s")))
        ca = _pem(self.pki.ca.intermediate)
        data = {
            "certificate": self.signed(Asked(csr.public_key(), uris, ends)).strip(),
            "issuing_ca": ca.strip(),
            "ca_chain": [ca.strip(), _pem(self.pki.ca.root).strip()],
            "expiration": int(ends.timestamp()),
        }
        return web.json_response({"request_id": "x", "lease_id": "", "renewable": False, "data": data})

    # -- step-ca: POST /1.0/sign

    async def step(self, request: web.Request) -> web.Response:
        self.calls += 1
        body = await request.json()
        csr = x509.load_pem_x509_csr(body["csr"].encode())
        try:
            claims = self._claims(body["ott"], str(request.url))
            san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = san.get_values_for_type(x509.UniformResourceIdentifier)
        except (ValueError, InvalidSignature) as error:
            return web.json_response({"status": 401, "message": f"unauthorized: {error}"}, status=401)
        if uris != claims["sans"]:
            return web.json_response(
                {"status": 403, "message": "the request's URIs are not valid"}, status=403
            )
        ends = datetime.fromisoformat(body["notAfter"])
        leaf, ca = (
            self.signed(Asked(csr.public_key(), uris, ends, claims["sub"][:64])),
            _pem(self.pki.ca.intermediate),
        )
        return web.json_response(
            {"crt": leaf, "ca": ca, "certChain": [leaf, ca], "tlsOptions": {}}, status=201
        )

    def _claims(self, token: str, audience: str) -> dict:
        head, claims, signature = token.split(".")
        said, raw = json.loads(_unb64(claims)), _unb64(signature)
        if json.loads(_unb64(head)) != {"alg": "ES256", "kid": "k1", "typ": "JWT"}:
            raise ValueError("key id")
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        self.provisioner.public_key().verify(der, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
        now = datetime.now(UTC).timestamp()
        if said["iss"] != "meshpy" or said["aud"] != audience or not said["nbf"] <= now < said["exp"]:
            raise ValueError("token is not valid")
        if said["jti"] in self.used:
            raise ValueError("token already used")
        self.used.add(said["jti"])
        return said

    def jwk(self) -> str:
        """The provisioner's private key, as `step crypto jwk decrypt` prints it."""
        numbers = self.provisioner.private_numbers()
        number = lambda value: base64.urlsafe_b64encode(value.to_bytes(32, "big")).rstrip(b"=").decode()  # noqa: E731
        public = {"x": number(numbers.public_numbers.x), "y": number(numbers.public_numbers.y)}
        return json.dumps(
            {
                "use": "sig",
                "kty": "EC",
                "kid": "k1",
                "crv": "P-256",
                "alg": "ES256",
                **public,
                "d": number(numbers.private_value),
            }
        )


@contextlib.asynccontextmanager
async def outside_ca(pki: MeshPki) -> AsyncIterator[OutsideCa]:
    """It serves while the block runs."""
    ca = OutsideCa(pki, ec.generate_private_key(ec.SECP256R1()))
    app = web.Application()
    app.router.add_post("/v1/pki/{how:sign|sign-verbatim}/{role}", ca.vault)
    app.router.add_post("/1.0/sign", ca.step)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ca.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield ca
    finally:
        await runner.cleanup()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
