"""Named certificates that must be refused, and a few unusual ones that must be accepted.

All are real certificates with real keys under one real authority; each breaks one rule only, so that a test
that sees a refusal sees that rule at work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.helpers.pki import MeshPki, mesh_pki

GOOD_ID = "spiffe://mesh.test/ns/shop/sa/web"
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True)
class Issuer:
    """Who signs, and what is sent after the leaf."""

    certificate: x509.Certificate
    key: object
    chain: tuple[x509.Certificate, ...]


@dataclass(frozen=True)
class Shape:
    """A certificate to be forged; the defaults make a good SVID."""

    uris: Sequence[str] = (GOOD_ID,)
    dns: Sequence[str] = ()
    emails: Sequence[str] = ()
    start_s: float = -60
    end_s: float = 3600
    ca: bool | None = False
    path_length: int | None = None
    usages: Sequence[str] | None = ("digital_signature",)
    usage_critical: bool = True
    purposes: Sequence[x509.ObjectIdentifier] | None = BOTH
    hash: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)
    more: Sequence[tuple[x509.ExtensionType, bool]] = ()
    name: str = ""


@dataclass(frozen=True)
class Presented:
    """What a peer sends, and its key."""

    name: str
    chain: tuple[bytes, ...]
    key_pem: bytes
    reason: str

    @property
    def chain_pem(self) -> bytes:
        return b"".join(ssl_pem(der) for der in self.chain)


def ssl_pem(der: bytes) -> bytes:
    import ssl

    return ssl.DER_cert_to_PEM_cert(der).encode()


def forge(shape: Shape, issuer: Issuer | None, key: object, now: datetime) -> x509.Certificate:
    """Sign `shape` for `key` (self-signed without an issuer)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, shape.name)] if shape.name else [])
    signer = issuer.key if issuer else key
    start = now.replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start + timedelta(seconds=shape.start_s))
        .not_valid_after(start + timedelta(seconds=shape.end_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    for extension, critical in _extensions(shape):
        builder = builder.add_extension(extension, critical=critical)
    if isinstance(shape.hash, hashes.SHA1):
        return _signed_with_sha1(builder.sign(signer, hashes.SHA256()), signer)
    return builder.sign(signer, shape.hash)


_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA1 = bytes.fromhex("300906072a8648ce3d0401")


def _signed_with_sha1(model: x509.Certificate, signer: object) -> x509.Certificate:
    """`model` signed anew with ecdsa-with-SHA1, put together by hand: the library refuses to."""
    body = model.tbs_certificate_bytes
    assert body[:2] == b"\x30\x82"
    assert body.count(_ECDSA_SHA256) == 1
    body = _sequence(body[4:].replace(_ECDSA_SHA256, _ECDSA_SHA1))
    signature = b"\0" + signer.sign(body, ec.ECDSA(hashes.SHA1()))
    bits = b"\x03" + bytes([len(signature)]) + signature
    return x509.load_der_x509_certificate(_sequence(body + _ECDSA_SHA1 + bits))


def _sequence(content: bytes) -> bytes:
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


def _extensions(shape: Shape) -> Iterator[tuple[x509.ExtensionType, bool]]:
    if shape.ca is not None:
        yield x509.BasicConstraints(ca=shape.ca, path_length=shape.path_length), True
    if shape.usages is not None:
        names = [
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ]
        yield x509.KeyUsage(**{name: name in shape.usages for name in names}), shape.usage_critical
    if shape.purposes is not None:
        yield x509.ExtendedKeyUsage(list(shape.purposes)), False
    names = [x509.UniformResourceIdentifier(uri) for uri in shape.uris]
    names += [x509.DNSName(name) for name in shape.dns]
    names += [x509.RFC822Name(name) for name in shape.emails]
    if names:
        yield x509.SubjectAlternativeName(names), not shape.name
    yield from shape.more


class Forge:
    """The forger: holds the authority's real keys and issues what the authority never would."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC)
        self.pki: MeshPki = mesh_pki(now=self.now - timedelta(days=3))
        ca = self.pki.ca
        self.intermediate = Issuer(ca.intermediate, ca.intermediate_key, (ca.intermediate,))
        self.root = Issuer(ca.root, self.pki.root_key, ())

    def present(
        self, name: str, reason: str, shape: Shape, *, issuer: Issuer | None, key: object = None
    ) -> Presented:
        key = key or ec.generate_private_key(ec.SECP256R1())
        leaf = forge(shape, issuer, key, self.now)
        chain = (leaf, *(issuer.chain if issuer else ()))
        return Presented(
            name, tuple(each.public_bytes(serialization.Encoding.DER) for each in chain), pem(key), reason
        )

    def authority(self, shape: Shape, issuer: Issuer | None) -> Issuer:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = forge(shape, issuer, key, self.now)
        return Issuer(certificate, key, (certificate, *(issuer.chain if issuer else ())))

    def bad(self) -> Iterator[Presented]:
        """Every certificate that must be refused; `reason` is the rule that `validate_chain` must name."""
        for name, reason, shape in _BAD_LEAVES:
            yield self.present(name, reason, shape, issuer=self.intermediate)
        weak = rsa.generate_private_key(65537, 1024)
        yield self.present("rsa-1024", "weak-key", Shape(), issuer=self.intermediate, key=weak)
        yield from self._bad_chains()

    def _bad_chains(self) -> Iterator[Presented]:
        other = mesh_pki("other.test", self.now)
        evil = mesh_pki("mesh.test", self.now)
        for name, pki, uri in (
            ("other-ca", other, "spiffe://other.test/ns/shop/sa/web"),
            ("other-ca-our-trust-domain", evil, GOOD_ID),
        ):
            foreign = Issuer(pki.ca.intermediate, pki.ca.intermediate_key, (pki.ca.intermediate, pki.ca.root))
            yield self.present(name, "unknown-authority", Shape(uris=(uri,)), issuer=foreign)
        yield self.present("self-signed", "unknown-authority", Shape(name="me"), issuer=None)
        ca_shape = Shape(
            uris=(), ca=True, path_length=0, usages=("key_cert_sign", "crl_sign"), purposes=None, name="sub"
        )
        sub = self.authority(ca_shape, self.intermediate)
        yield self.present("path-length-exceeded", "bad-chain", Shape(), issuer=sub)
        holder = self.authority(Shape(name="holder"), self.intermediate)
        yield self.present("signed-by-a-leaf", "bad-chain", Shape(), issuer=holder)
        constraint = x509.NameConstraints([x509.UniformResourceIdentifier("elsewhere.test")], None)
        narrow = self.authority(Shape(**{**vars(ca_shape), "more": ((constraint, True),)}), self.root)
        yield self.present("name-constraint", "unknown-critical-extension", Shape(), issuer=narrow)
        lapsed = self.authority(Shape(**{**vars(ca_shape), "start_s": -7200, "end_s": -10}), self.root)
        yield self.present("expired-intermediate", "expired", Shape(), issuer=lapsed)
        yield self._authority_as_leaf()
        good = self.present("", "", Shape(), issuer=self.intermediate)
        flipped = good.chain[0][:-1] + bytes([good.chain[0][-1] ^ 1])
        yield Presented("tampered-signature", (flipped, *good.chain[1:]), good.key_pem, "bad-signature")
        yield Presented("intermediate-missing", good.chain[:1], good.key_pem, "unknown-authority")

    def _authority_as_leaf(self) -> Presented:
        ca = self.pki.ca
        der = ca.intermediate.public_bytes(serialization.Encoding.DER)
        return Presented("authority-as-leaf", (der,), pem(ca.intermediate_key), "is-ca")

    def good(self) -> Iterator[Presented]:
        """SVIDs that other issuers make and that the specification allows."""
        yield self.present("plain", "", Shape(), issuer=self.intermediate)
        yield self.present("signed-by-the-root", "", Shape(), issuer=self.root)
        yield self.present("no-extended-key-usage", "", Shape(purposes=None), issuer=self.intermediate)
        yield self.present(
            "with-dns-names", "", Shape(dns=("web.shop.test",), name="web"), issuer=self.intermediate
        )
        key = rsa.generate_private_key(65537, 2048)
        shape = Shape(usages=("digital_signature", "key_encipherment"))
        yield self.present("rsa-2048", "", shape, issuer=self.intermediate, key=key)
        p384 = ec.generate_private_key(ec.SECP384R1())
        yield self.present(
            "p-384-deep-path",
            "",
            Shape(uris=("spiffe://mesh.test/a/b/c/d",)),
            issuer=self.intermediate,
            key=p384,
        )


def pem(key: object) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _uri(text: str) -> Shape:
    return Shape(uris=(text,))


_SIGN = "digital_signature"
_BAD_LEAVES: tuple[tuple[str, str, Shape], ...] = (
    ("expired", "expired", Shape(start_s=-7200, end_s=-1)),
    ("not-yet-valid", "not-yet-valid", Shape(start_s=3600, end_s=7200)),
    ("wrong-trust-domain", "wrong-trust-domain", _uri("spiffe://other.test/ns/shop/sa/web")),
    ("trust-domain-prefix", "wrong-trust-domain", _uri("spiffe://mesh.test.evil.com/ns/shop/sa/web")),
    ("trust-domain-suffix", "wrong-trust-domain", _uri("spiffe://evil.mesh.test/ns/shop/sa/web")),
    ("no-san", "no-spiffe-id", Shape(uris=(), name="mesh.test")),
    ("dns-san-only", "no-spiffe-id", Shape(uris=(), dns=("web.shop.mesh.test",))),
    ("email-san-only", "no-spiffe-id", Shape(uris=(), emails=("web@mesh.test",))),
    ("two-spiffe-uris", "two-uris", Shape(uris=(GOOD_ID, "spiffe://mesh.test/ns/shop/sa/api"))),
    ("other-uri-and-spiffe-uri", "two-uris", Shape(uris=("https://mesh.test/web", GOOD_ID))),
    ("spiffe-uri-and-other-uri", "two-uris", Shape(uris=(GOOD_ID, "https://mesh.test/web"))),
    ("root-path", "no-workload-path", _uri("spiffe://mesh.test")),
    ("slash-path", "bad-spiffe-id", _uri("spiffe://mesh.test/")),
    ("trailing-slash", "bad-spiffe-id", _uri(GOOD_ID + "/")),
    ("dot-dot-segment", "bad-spiffe-id", _uri("spiffe://mesh.test/ns/shop/../shop/sa/web")),
    ("empty-segment", "bad-spiffe-id", _uri("spiffe://mesh.test/ns//shop/sa/web")),
    ("upper-case-trust-domain", "bad-spiffe-id", _uri("spiffe://MESH.test/ns/shop/sa/web")),
    ("upper-case-scheme", "bad-spiffe-id", _uri("SPIFFE://mesh.test/ns/shop/sa/web")),
    ("port", "bad-spiffe-id", _uri("spiffe://mesh.test:443/ns/shop/sa/web")),
    ("userinfo", "bad-spiffe-id", _uri("spiffe://root@mesh.test/ns/shop/sa/web")),
    ("query", "bad-spiffe-id", _uri(GOOD_ID + "?a=b")),
    ("fragment", "bad-spiffe-id", _uri(GOOD_ID + "#a")),
    ("percent-encoding", "bad-spiffe-id", _uri("spiffe://mesh.test/ns/shop/sa/w%65b")),
    ("https-scheme", "bad-spiffe-id", _uri("https://mesh.test/ns/shop/sa/web")),
    ("newline-after", "bad-spiffe-id", _uri(GOOD_ID + "\n")),
    ("nul-after", "bad-spiffe-id", _uri(GOOD_ID + "\0evil")),
    ("eku-server-only", "extended-key-usage", Shape(purposes=BOTH[:1])),
    ("eku-client-only", "extended-key-usage", Shape(purposes=BOTH[1:])),
    ("eku-email", "extended-key-usage", Shape(purposes=(ExtendedKeyUsageOID.EMAIL_PROTECTION,))),
    ("key-cert-sign", "signing-key-usage", Shape(usages=(_SIGN, "key_cert_sign"))),
    ("crl-sign", "signing-key-usage", Shape(usages=(_SIGN, "crl_sign"))),
    ("ca-true", "is-ca", Shape(ca=True, usages=(_SIGN,))),
    ("no-key-usage", "no-key-usage", Shape(usages=None)),
    ("key-usage-not-critical", "key-usage-not-critical", Shape(usage_critical=False)),
    ("no-digital-signature", "no-digital-signature", Shape(usages=("key_agreement",))),
    ("sha-1", "weak-signature", Shape(hash=hashes.SHA1())),
    (
        "unknown-critical-extension",
        "unknown-critical-extension",
        Shape(more=((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),)),
    ),
)
