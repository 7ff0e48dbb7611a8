"""Certificates of the plainest form, read strictly: what our own CA and most others make.

A sidecar reads certificates whose chain OpenSSL has verified. For the few fields it asks for, the X.509
library would be a fifth of its memory. So these are read here, where nothing is in doubt: version 3, no field
and no extension but those named below, each in its one spelling. To everything else the answer is None, and
the library judges it (`certs.svid`): every refusal is the library's, and what is taken here the library takes
too, with the same values (`tests/property/test_plain_certificates.py`).

Source: RFC 5280 §4.1 and §4.2; RFC 5480 §2; X509-SVID §2 to §5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from certs.der import Der, NotPlainError, need
from certs.errors import SpiffeIdError
from certs.spiffe import SpiffeId

__all__ = ["PlainCertificate", "read_plain"]

_BOOLEAN, _OCTETS, _SEQUENCE, _SET, _VERSION, _EXTENSIONS = 0x01, 0x04, 0x30, 0x31, 0xA0, 0xA3
_UTF8, _PRINTABLE, _IA5, _UTC_TIME, _LATER_TIME = 0x0C, 0x13, 0x16, 0x17, 0x18
_DNS, _URI, _ADDRESS, _KEY_ID = 0x82, 0x86, 0x87, 0x80

_ECDSA = tuple(bytes.fromhex(f"300a06082a8648ce3d0403{sha2}") for sha2 in ("02", "03", "04"))
_PKCS1 = tuple(bytes.fromhex(f"300d06092a864886f70d0101{sha2}0500") for sha2 in ("0b", "0c", "0d"))
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")
_P256 = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
_P384 = bytes.fromhex("301006072a8648ce3d020106052b81040022")
_CURVES = {  # SP 800-186 §3.2.1: the prime and b; a is -3
    _P256: (
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    ),
    _P384: (
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    ),
}
_SUBJECT_KEY, _USAGE, _NAMES = (bytes((0x55, 0x1D, last)) for last in (14, 15, 17))
_CONSTRAINTS, _AUTHORITY_KEY, _PURPOSES = (bytes((0x55, 0x1D, last)) for last in (19, 35, 37))
_SERVER, _CLIENT = (bytes.fromhex(f"06082b060105050703{purpose}") for purpose in ("01", "02"))
_PROVISIONER = bytes.fromhex("2b0601040182a464c6284001")
"""By which step-ca says on whose word it signed (1.3.6.1.4.1.37476.9000.64.1); nobody reads it here."""
_DIGITAL_SIGNATURE, _CERT_OR_CRL_SIGN, _ENCIPHER_ONLY = 0x80, 0x06, 0x01

_PRINTABLES = re.compile(rb"[A-Za-z0-9 '()+,\-./:=?]+")
_TIMES = {_UTC_TIME: re.compile(rb"\d{12}Z"), _LATER_TIME: re.compile(rb"\d{14}Z")}


@dataclass(frozen=True, slots=True)
class PlainCertificate:
    """What a sidecar asks of a certificate.

    Args:
        issuer, subject: names as they are spelled, in DER.
        svid: whose it is, if it may authenticate as that (X509-SVID §2, §4, §5.2), its key included.
    """

    issuer: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime
    is_ca: bool
    svid: SpiffeId | None


def read_plain(der: bytes) -> PlainCertificate | None:
    """What a certificate says; None where the library is to be asked."""
    try:
        return _read(der)
    except (NotPlainError, ValueError):
        return None


def _read(der: bytes) -> PlainCertificate:
    certificate = Der(der).only(_SEQUENCE)
    body, algorithm = certificate.inside(_SEQUENCE), certificate.whole(_SEQUENCE)
    need(algorithm in _ECDSA or algorithm in _PKCS1)
    certificate.bits()
    certificate.finish()
    version = body.inside(_VERSION)
    need(version.positive() == b"\x02")
    version.finish()
    need(len(body.positive()) <= 20)  # the serial number
    need(body.whole(_SEQUENCE) == algorithm)
    issuer = _name(body)
    validity = body.inside(_SEQUENCE)
    not_before, not_after = _time(validity), _time(validity)
    validity.finish()
    subject = _name(body)
    has_curve = _has_curve(body.inside(_SEQUENCE))
    is_ca, svid = _extensions(body.only(_EXTENSIONS).only(_SEQUENCE))
    return PlainCertificate(issuer, subject, not_before, not_after, is_ca, svid if has_curve else None)


def _name(body: Der) -> bytes:
    """A distinguished name, one attribute in each part (RFC 5280 §4.1.2.4), as it is spelled."""
    spelled = body.whole(_SEQUENCE)
    parts = Der(spelled).only(_SEQUENCE)
    while parts.next_tag() >= 0:
        attribute = parts.inside(_SET).only(_SEQUENCE)
        attribute.kind()
        tag = attribute.next_tag()
        text = attribute.content(tag)
        need(tag in (_UTF8, _PRINTABLE, _IA5))
        need(text.decode("utf-8") if tag == _UTF8 else _ascii(text))
        need(tag != _PRINTABLE or _PRINTABLES.fullmatch(text))
        attribute.finish()
    return spelled


def _ascii(content: bytes) -> str:
    text = content.decode("ascii")
    need(text)
    return text


def _time(validity: Der) -> datetime:
    """RFC 5280 §4.1.2.5: two digits of the year until 2049, four from then on."""
    tag = validity.next_tag()
    content = validity.content(tag)
    need(tag in _TIMES and _TIMES[tag].fullmatch(content))
    digits = content[:-1].decode("ascii")
    if tag == _UTC_TIME:
        digits = ("20" if digits < "5" else "19") + digits
    else:
        need(digits >= "2050")
    month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
    return datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC)


def _has_curve(key: Der) -> bool:
    """Whether a public key is a point of P-256 or P-384 (RFC 5480 §2); else it is of RSA, and is not read."""
    algorithm, point = key.whole(_SEQUENCE), key.bits()
    key.finish()
    if algorithm == _RSA:
        return False
    need(algorithm in _CURVES)
    prime, b = _CURVES[algorithm]
    size = prime.bit_length() // 8
    need(len(point) == 1 + 2 * size and point[0] == 4)  # uncompressed
    x, y = int.from_bytes(point[1 : 1 + size], "big"), int.from_bytes(point[1 + size :], "big")
    need(x < prime and y < prime and (y * y - (x * x - 3) * x - b) % prime == 0)
    return True


def _extensions(listed: Der) -> tuple[bool, SpiffeId | None]:
    """Whether it is a CA; whose it is if it may authenticate."""
    found: dict[bytes, bytes] = {}
    critical = set()
    need(listed.next_tag() >= 0)
    while listed.next_tag() >= 0:
        each = listed.inside(_SEQUENCE)
        kind = each.kind()
        need(kind not in found)
        if each.next_tag() == _BOOLEAN:
            need(each.content(_BOOLEAN) == b"\xff")
            critical.add(kind)
        found[kind] = each.content(_OCTETS)
        each.finish()
    usage, is_ca, uris = 0, False, []
    for kind, value in found.items():
        if kind == _USAGE:
            usage = _usage(value)
        elif kind == _CONSTRAINTS:
            is_ca = _is_ca(value)
        elif kind == _NAMES:
            uris = _uris(Der(value).only(_SEQUENCE))
        elif kind == _PURPOSES:  # RFC 5280 §4.2.1.12; both, as X509-SVID §4.4 wants
            need(value in (b"\x30\x14" + _SERVER + _CLIENT, b"\x30\x14" + _CLIENT + _SERVER))
        elif kind == _SUBJECT_KEY:  # §4.2.1.2
            Der(value).only(_OCTETS)
        elif kind == _AUTHORITY_KEY:  # §4.2.1.1, the key's id alone
            Der(value).only(_SEQUENCE).only(_KEY_ID)
        else:
            need(kind == _PROVISIONER and kind not in critical)
    may_speak = usage & _DIGITAL_SIGNATURE and not usage & _CERT_OR_CRL_SIGN and _USAGE in critical
    if is_ca or not may_speak or len(uris) != 1:
        return is_ca, None
    try:
        return is_ca, SpiffeId.parse(uris[0])
    except SpiffeIdError:
        return is_ca, None


def _is_ca(value: bytes) -> bool:
    """RFC 5280 §4.2.1.9; what is FALSE is left out (X.690 §11.5)."""
    if value == b"\x30\x00":
        return False
    has_path_length = len(value) == 8 and value[:7] == b"\x30\x06\x01\x01\xff\x02\x01" and value[7] < 0x80
    need(has_path_length or value == b"\x30\x03\x01\x01\xff")
    return True


def _usage(value: bytes) -> int:
    """RFC 5280 §4.2.1.3, all but the last bit; nothing after the last that is set (X.690 §11.2.2)."""
    need(len(value) == 4 and value[:2] == b"\x03\x02" and value[2] < 8)
    unused, bits = value[2], value[3]
    need(bits & ((1 << unused) - 1) == 0 and bits >> unused & 1 and not bits & _ENCIPHER_ONLY)
    return bits


def _uris(names: Der) -> list[str]:
    """RFC 5280 §4.2.1.6; DNS names and addresses may stand beside them."""
    uris = []
    need(names.next_tag() >= 0)
    while (tag := names.next_tag()) >= 0:
        content = names.content(tag)
        if tag == _ADDRESS:
            need(len(content) in (4, 16))
        else:
            need(tag in (_URI, _DNS) and _ascii(content))
        if tag == _URI:
            uris.append(content.decode("ascii"))
    return uris
