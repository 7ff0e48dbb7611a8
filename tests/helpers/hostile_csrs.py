"""Signing requests that nobody honest sends, built byte by byte (PKCS #10, RFC 2986) with real signatures.

Each carries its verdict: refused, or signed all the same because what it asks for is ignored.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.csr import MAX_CSR_BYTES, make_csr
from certs.spiffe import SpiffeId

__all__ = ["ATTESTED", "KEY", "HostileCsr", "flipped", "flipped_then_signed", "hostile_csrs"]

ATTESTED = SpiffeId.parse("spiffe://mesh.test/ns/shop/sa/web")
OTHER = "spiffe://mesh.test/ns/shop/sa/admin"
KEY = ec.generate_private_key(ec.SECP256R1())

_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA1 = bytes.fromhex("300906072a8648ce3d0401")
_RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
_RSA_MD5 = bytes.fromhex("300d06092a864886f70d0101040500")
_RSA_KEY = bytes.fromhex("300d06092a864886f70d0101010500")
_EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")  # RFC 2985 §5.4.2
_CHALLENGE_PASSWORD = bytes.fromhex("06092a864886f70d010907")
_EC_KEY = bytes.fromhex("06072a8648ce3d0201")
_P256 = bytes.fromhex("06082a8648ce3d030107")
_SAN, _CONSTRAINTS, _KEY_USAGE, _PURPOSES = "551d11", "551d13", "551d0f", "551d25"


@dataclass(frozen=True)
class HostileCsr:
    """A request, and whether the authority must refuse it (else it signs the attested identity only)."""

    name: str
    csr: bytes
    is_refused: bool


def tlv(tag: int, *contents: bytes) -> bytes:
    """One DER element."""
    content = b"".join(contents)
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(value: int) -> bytes:
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def spki(key: object) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    flag = [b"\x01\x01\xff"] if critical else []
    return tlv(0x30, tlv(6, bytes.fromhex(oid)), *flag, tlv(4, value))


def known(value: x509.ExtensionType, *, critical: bool = False) -> bytes:
    """An extension as the library encodes it."""
    encoded = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(value, critical=critical)
    request = encoded.sign(KEY, hashes.SHA256())
    oid = request.extensions[0].oid.dotted_string
    found = request.extensions[0].value.public_bytes()
    first, second, *rest = (int(part) for part in oid.split("."))
    assert first * 40 + second < 128
    assert all(part < 128 for part in rest)
    return extension(bytes([first * 40 + second, *rest]).hex(), found, critical=critical)


def names(*general: bytes) -> bytes:
    """A SAN of raw GeneralNames."""
    return extension(_SAN, tlv(0x30, *general), critical=True)


def uri(text: str | bytes) -> bytes:
    return tlv(0x86, text.encode() if isinstance(text, str) else text)


OWN = uri(str(ATTESTED))


def requested(*extensions: bytes) -> bytes:
    """The attribute `extensionRequest`."""
    return tlv(0x30, _EXTENSION_REQUEST, tlv(0x31, tlv(0x30, *extensions)))


def body(*attributes: bytes, key: bytes | None = None, subject: bytes = b"", version: int = 0) -> bytes:
    """A CertificationRequestInfo."""
    return tlv(0x30, integer(version), tlv(0x30, subject), key or spki(KEY), tlv(0xA0, *attributes))


def common_name(text: str) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]).public_bytes()
    return name[2:]


def ecdsa(info: bytes) -> bytes:
    return KEY.sign(info, ec.ECDSA(hashes.SHA256()))


def signed(info: bytes, sign: Callable[[bytes], bytes] = ecdsa, algorithm: bytes = _ECDSA_SHA256) -> bytes:
    return tlv(0x30, info, algorithm, tlv(3, b"\0", sign(info)))


def asking(*extensions: bytes) -> bytes:
    return signed(body(requested(*extensions)))


def pem(der: bytes, label: str = "CERTIFICATE REQUEST") -> bytes:
    text = base64.encodebytes(der)
    return f"-----BEGIN {label}-----\n".encode() + text + f"-----END {label}-----\n".encode()


def hostile_csrs() -> Iterator[HostileCsr]:
    """Every named request."""
    for family, is_refused in (
        (_bad_keys, True),
        (_bad_signatures, True),
        (_other_identities, True),
        (_unreadable, True),
        (_greedy, False),
        (_odd_forms, False),
    ):
        for name, csr in family():
            yield HostileCsr(name, csr, is_refused)


def _by_library(key: object, algorithm: hashes.HashAlgorithm | None) -> bytes:
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(ATTESTED))])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(san, critical=True)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


def _rsa_spki(modulus: int, exponent: int) -> bytes:
    numbers = tlv(0x30, integer(modulus), integer(exponent))
    return tlv(0x30, _RSA_KEY, tlv(3, b"\0", numbers))


def _bad_keys() -> Iterator[tuple[str, bytes]]:
    sha256 = hashes.SHA256()
    for bits in (1024, 2048):
        yield f"rsa-{bits}", _by_library(rsa.generate_private_key(65537, bits), sha256)
    for bits, exponent in ((16384, 65537), (8192, (1 << 4096) + 1), (2048, 1), (2048, 3)):
        # Odd and of the right size is all that a reader can see of a modulus.
        fake = _rsa_spki((1 << bits) - 159, exponent)
        yield (
            f"rsa-{bits}-exponent-of-{exponent.bit_length()}-bits",
            signed(body(requested(names(OWN)), key=fake), lambda _, n=bits // 8: bytes(n), _RSA_SHA256),
        )
    for curve in (ec.SECP192R1(), ec.SECP224R1(), ec.SECP256K1(), ec.BrainpoolP256R1(), ec.SECP521R1()):
        yield curve.name, _by_library(ec.generate_private_key(curve), sha256)
    yield "ed25519", _by_library(ed25519.Ed25519PrivateKey.generate(), None)
    yield "ed448", _by_library(ed448.Ed448PrivateKey.generate(), None)
    yield "dsa-1024", _by_library(dsa.generate_private_key(1024), sha256)
    for name, key in (
        ("x25519", spki(x25519.X25519PrivateKey.generate())),
        ("point-off-the-curve", _ec_spki(_P256, b"\x04" + bytes(range(64)))),
        ("point-at-infinity", _ec_spki(_P256, b"\0")),
        ("point-cut-short", _ec_spki(_P256, b"\x04" + bytes(31))),
        ("curve-without-a-name", _ec_spki(b"\x05\0", b"\x04" + bytes(range(64)))),
        ("curve-of-ones-own", _ec_spki(_curve_with_a_chosen_generator(), _point())),
        ("key-of-an-unknown-kind", tlv(0x30, tlv(0x30, bytes.fromhex("06032a0304")), tlv(3, b"\0", b"abc"))),
    ):
        yield name, signed(body(requested(names(OWN)), key=key))


def _ec_spki(curve: bytes, point: bytes) -> bytes:
    return tlv(0x30, tlv(0x30, _EC_KEY, curve), tlv(3, b"\0", point))


def _point() -> bytes:
    return KEY.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def _curve_with_a_chosen_generator() -> bytes:
    """P-256 spelt out with our own key as generator: its private key is 1 (CVE-2020-0601)."""
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    field = tlv(0x30, bytes.fromhex("06072a8648ce3d0101"), integer(prime))
    curve = tlv(0x30, tlv(4, (prime - 3).to_bytes(32, "big")), tlv(4, b.to_bytes(32, "big")))
    return tlv(0x30, integer(1), field, curve, tlv(4, _point()), integer(order), integer(1))


def _bad_signatures() -> Iterator[tuple[str, bytes]]:
    info = body(requested(names(OWN)))
    thief = ec.generate_private_key(ec.SECP256R1())
    rsa_key = rsa.generate_private_key(65537, 2048)
    good = make_csr(KEY, ATTESTED)
    yield "signed-by-another-key", signed(info, lambda data: thief.sign(data, ec.ECDSA(hashes.SHA256())))
    yield "signature-of-another-request", signed(info, lambda _: ecdsa(body(requested(names(uri(OTHER))))))
    yield "signature-of-zeros", signed(info, lambda _: tlv(0x30, integer(0), integer(0)))
    yield "signature-empty", signed(info, lambda _: b"")
    yield "signature-cut-short", signed(info, lambda data: ecdsa(data)[:-1])
    yield "signature-bit-flipped", good[:-1] + bytes([good[-1] ^ 1])
    sha1 = ec.ECDSA(hashes.SHA1())
    yield "ecdsa-sha1", signed(info, lambda data: KEY.sign(data, sha1), _ECDSA_SHA1)
    md5 = body(requested(names(OWN)), key=spki(rsa_key))
    yield (
        "rsa-md5",
        signed(md5, lambda data: rsa_key.sign(data, padding.PKCS1v15(), hashes.MD5()), _RSA_MD5),
    )
    yield "rsa-signature-under-an-ec-key", signed(info, lambda _: bytes(256), _RSA_SHA256)
    yield "unknown-signature-algorithm", signed(info, algorithm=bytes.fromhex("300506032a0304"))


def _other_identities() -> Iterator[tuple[str, bytes]]:
    for name, text in (
        ("another-service", OTHER),
        ("another-namespace", "spiffe://mesh.test/ns/bank/sa/web"),
        ("another-trust-domain", "spiffe://evil.test/ns/shop/sa/web"),
        ("the-trust-domain-itself", "spiffe://mesh.test"),
        ("the-control-plane", "spiffe://mesh.test/ns/mesh-system/sa/control-plane"),
        ("upper-case", "SPIFFE://MESH.TEST/ns/shop/sa/web"),
        ("trailing-slash", f"{ATTESTED}/"),
        ("trailing-newline", f"{ATTESTED}\n"),
        ("trailing-nul", f"{ATTESTED}\0"),
        ("nul-and-more", f"{ATTESTED}\0.evil.test"),
        ("dot-segments", "spiffe://mesh.test/ns/shop/sa/admin/../web"),
        ("percent-encoded", "spiffe://mesh.test/ns/shop/sa/w%65b"),
        ("query", f"{ATTESTED}?sa=admin"),
        ("empty-uri", ""),
        ("https", "https://web.shop/"),
        ("script", "<script>alert(1)</script>\r\nX-Injected: 1"),
        ("ten-thousand-characters", "spiffe://mesh.test/" + "a" * 10_000),
    ):
        yield f"uri-{name}", asking(names(uri(text)))
    yield "own-uri-then-another", asking(names(OWN, uri(OTHER)))
    yield "another-uri-then-own", asking(names(uri(OTHER), OWN))
    yield "own-uri-and-fifty-others", asking(names(OWN, *(uri(f"{OTHER}{each}") for each in range(50))))
    yield "uri-of-latin-1", asking(names(uri(b"spiffe://mesh.test/\xe9")))


def _unreadable() -> Iterator[tuple[str, bytes]]:
    good = make_csr(KEY, ATTESTED)
    certificate = x509.load_der_x509_csr(good)
    yield "empty", b""
    yield "whitespace", b" \r\n\t" * 10
    yield "zeros", bytes(512)
    yield "random", random.Random(1).randbytes(512)
    yield "one-byte-too-long", bytes(MAX_CSR_BYTES + 1)
    yield "good-then-padding-beyond-the-limit", good + bytes(MAX_CSR_BYTES + 1 - len(good))
    yield "pem-beyond-the-limit", pem(good) + b"\n" * MAX_CSR_BYTES
    yield "ten-megabytes", bytes(10_000_000)
    yield "as-long-as-allowed", b"\x30\x82\x3f\xfc" + bytes(MAX_CSR_BYTES - 4)
    yield "claims-two-gigabytes", b"\x30\x84\x7f\xff\xff\xff" + good
    yield "indefinite-length", b"\x30\x80" + good[4:] + b"\0\0"
    yield "nested-seven-thousand-deep", b"\x30\x80" * 7000
    yield "cut-in-half", good[: len(good) // 2]
    yield "trailing-byte", good + b"\0"
    yield "twice", good + good
    yield "version-2", signed(body(requested(names(OWN)), version=1))
    yield "public-key-alone", spki(KEY)
    yield (
        "private-key",
        KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    yield "signed-body-alone", certificate.tbs_certrequest_bytes
    yield "base64-without-armour", base64.b64encode(good)
    yield "pem-of-a-certificate-label", pem(good, "CERTIFICATE")
    yield "pem-two-requests", pem(good) * 2
    yield "pem-good-then-private-key", pem(good) + pem(b"\x30\x00", "PRIVATE KEY")
    yield "pem-words-before", b"Certificate Request:\n" + pem(good)
    yield "pem-byte-order-mark", b"\xef\xbb\xbf" + pem(good)
    yield "pem-utf-16", pem(good).decode().encode("utf-16")
    yield "pem-bad-base64", pem(good).replace(b"M", b"*", 1)
    yield "pem-without-end", pem(good).partition(b"-----END")[0]
    yield "pem-empty", pem(b"")
    yield "pem-of-zeros", pem(bytes(300))
    yield "pem-dashes-only", b"-----" * 1000
    yield from _unreadable_extensions()


def _unreadable_extensions() -> Iterator[tuple[str, bytes]]:
    yield "san-twice", asking(names(OWN), names(uri(OTHER)))
    yield "same-san-twice", asking(names(OWN), names(OWN))
    constraints = known(x509.BasicConstraints(ca=True, path_length=None))
    yield "constraints-twice", asking(names(OWN), constraints, constraints)
    yield "san-of-garbage", asking(extension(_SAN, b"\xff\xff\xff"))
    yield "san-empty-value", asking(extension(_SAN, b""))
    yield "san-x400-address", asking(names(OWN, tlv(0xA3, b"\x30\x00")))
    yield "san-edi-party", asking(names(OWN, tlv(0xA5, b"\x30\x00")))
    yield "san-three-byte-ip", asking(names(OWN, tlv(0x87, b"\x7f\0\0")))
    yield "constraints-of-garbage", asking(names(OWN), extension(_CONSTRAINTS, b"\x30\x03\x01\x01"))
    yield "usage-of-garbage", asking(names(OWN), extension(_KEY_USAGE, b"\x03\x02"))
    yield "purposes-of-garbage", asking(names(OWN), extension(_PURPOSES, b"\x04\x00"))
    yield "extension-list-of-garbage", signed(body(tlv(0x30, _EXTENSION_REQUEST, tlv(0x31, b"\x04\x01a"))))


def _greedy() -> Iterator[tuple[str, bytes]]:
    """Asks for more than an identity; gets the identity alone."""
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    usage |= dict.fromkeys(("digital_signature", "key_cert_sign", "crl_sign"), True)
    signing = x509.KeyUsage(**usage, encipher_only=False, decipher_only=False)
    own = names(OWN)
    yield "ca-true", asking(own, known(x509.BasicConstraints(ca=True, path_length=9), critical=True))
    yield "key-cert-sign", asking(own, known(signing, critical=True))
    for name, purpose in (
        ("any", ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE),
        ("code-signing", ExtendedKeyUsageOID.CODE_SIGNING),
        ("ocsp-signing", ExtendedKeyUsageOID.OCSP_SIGNING),
    ):
        yield f"purpose-{name}", asking(own, known(x509.ExtendedKeyUsage([purpose])))
    foreign = ec.generate_private_key(ec.SECP256R1()).public_key()
    yield "key-id-of-another", asking(own, known(x509.SubjectKeyIdentifier.from_public_key(foreign)))
    yield (
        "name-constraints",
        asking(own, known(x509.NameConstraints([x509.DNSName("")], None), critical=True)),
    )
    yield "unknown-critical-extension", asking(own, extension("2a0304", b"\x05\x00", critical=True))
    for name, general in (
        ("dns", tlv(0x82, b"admin.shop.mesh.test")),
        ("wildcard-dns", tlv(0x82, b"*")),
        ("ip", tlv(0x87, bytes([127, 0, 0, 1]))),
        ("email", tlv(0x81, b"root@mesh.test")),
        ("directory", tlv(0xA4, tlv(0x30, common_name("admin")))),
        ("registered-id", tlv(0x88, bytes.fromhex("2a0304"))),
        ("other-name", tlv(0xA0, bytes.fromhex("06032a0304"), tlv(0xA0, tlv(12, OTHER.encode())))),
    ):
        yield f"san-{name}", asking(names(OWN, general))
        yield f"san-{name}-alone", asking(names(general))
    for name, text in (("service", "admin"), ("id", OTHER), ("markup", "<b>\r\n"), ("long", "a" * 64)):
        yield f"common-name-of-{name}", signed(body(requested(own), subject=common_name(text)))


def _odd_forms() -> Iterator[tuple[str, bytes]]:
    good = make_csr(KEY, ATTESTED)
    yield "without-extensions", signed(body())
    yield "own-uri-twice", asking(names(OWN, OWN))
    yield (
        "challenge-password",
        signed(body(tlv(0x30, _CHALLENGE_PASSWORD, tlv(0x31, tlv(12, b"secret"))), requested(names(OWN)))),
    )
    yield "pem-junk-after", pem(good) + b"and more\0\xff"
    yield "pem-crlf", pem(good).replace(b"\n", b"\r\n")
    yield "pem-blank-lines-before", b"\n\n  " + pem(good)
    yield "pem-older-label", pem(good, "NEW CERTIFICATE REQUEST")
    point = KEY.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    yield "compressed-point", signed(body(requested(names(OWN)), key=_ec_spki(_P256, point)))


def flipped(count: int, seed: int) -> Iterator[bytes]:
    """A good request with one to four bits flipped, bytes dropped or doubled: DER and PEM by turns."""
    rng = random.Random(seed)
    good = make_csr(KEY, ATTESTED)
    for turn in range(count):
        yield _damaged(rng, pem(good) if turn % 2 else good)


def flipped_then_signed(count: int, seed: int) -> Iterator[bytes]:
    """As `flipped`, but the damage is inside and its sender signed it: it reaches the deepest parser."""
    rng = random.Random(seed)
    purposes = known(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
    other = tlv(0x82, b"web.shop")
    info = body(requested(names(OWN, other), purposes), subject=common_name("web"))
    # The head (lengths, version) mostly ends parsing at once; the attributes at the end are the prey.
    for turn in range(count):
        cut = len(info) - 110 if turn % 2 else 0
        yield signed(info[:cut] + _damaged(rng, info[cut:]))


def _damaged(rng: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(damaged))
        match rng.randrange(8):
            case 0:
                del damaged[place]
            case 1:
                damaged.insert(place, damaged[place])
            case _:
                damaged[place] ^= 1 << rng.randrange(8)
    return bytes(damaged)
