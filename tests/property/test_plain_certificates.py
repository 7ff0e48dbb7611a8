"""What a sidecar reads of plain certificates by itself, the X.509 library reads too, to the same effect."""

import os
import random
import warnings
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.certificates import certificate_of, check_root, der_of
from certs.pem import from_pem, to_pem
from certs.plain import read_plain
from certs.svid import dates_of, open_certificate, read_leaf
from tests.helpers.bad_certificates import Forge, Issuer, Shape
from tests.helpers.bad_certificates import forge as forge_of

EXAMPLES = int(os.environ.get("MESHPY_FUZZ_EXAMPLES", "400"))
_WRAPPING = {0x03: 1, 0x04: 0}
"""Bit and octet strings may hold values; the first counts its unused bits before them."""

_TAGS = (1, 2, 3, 4, 5, 6, 0x0C, 0x13, 0x16, 0x17, 0x18, 0x30, 0x31, 0x80, 0x82, 0x86, 0xA0)


_PROVISIONER = x509.ObjectIdentifier("1.3.6.1.4.1.37476.9000.64.1")


@cache
def plain_ones():
    """Leaves and CAs as we and others make them."""
    forge = Forge()
    shapes = (
        Shape(),
        Shape(dns=("web.shop.test",), name="web"),
        Shape(usages=("digital_signature", "content_commitment", "key_agreement")),
        Shape(purposes=None, ca=None, end_s=30 * 365 * 86400),
        Shape(more=((x509.UnrecognizedExtension(_PROVISIONER, b"0\0"), False),)),
        Shape(uris=(), ca=True, usages=("key_cert_sign",), purposes=None, name="a CA"),
    )
    leaves = [forge.present("", "", shape, issuer=forge.intermediate).chain[0] for shape in shapes]
    own = rsa.generate_private_key(65537, 2048)
    root = forge_of(
        Shape(uris=(), ca=True, usages=("key_cert_sign",), purposes=None, name="RSA"), None, own, forge.now
    )
    leaves += [forge.present("", "", Shape(), issuer=Issuer(root, own, ())).chain[0], der_of(root)]
    deep = next(each for each in forge.good() if each.name == "p-384-deep-path")
    return (*leaves, deep.chain[0], der_of(forge.pki.ca.intermediate), der_of(forge.pki.ca.root))


def test_certificates_of_ours_are_plain():
    for der in plain_ones():
        found = read_plain(der)
        assert found is not None
        certificate = certificate_of(der)
        assert (found.issuer, found.subject) == (
            certificate.issuer.public_bytes(),
            certificate.subject.public_bytes(),
        )
        assert (found.svid is None) == found.is_ca


def test_pem_reads_back_and_is_what_the_library_writes():
    for der in plain_ones():
        pem = certificate_of(der).public_bytes(Encoding.PEM)
        assert to_pem(der, "CERTIFICATE") == pem
        assert from_pem(pem + b"\n" + pem, "CERTIFICATE") == (der, der)
        broken = pem[:80] + b"*" + pem[81:]
        for other in (b"", b"of a comment\n" + pem, pem[:-30], pem.replace(b"\n", b""), broken):
            assert from_pem(other, "CERTIFICATE") is None


# -- trees of values: what is changed keeps its lengths right


def tree(data):
    """Tag and content of each value, the content as a tree where it is one; None where it is no DER."""
    found, at = [], 0
    while at < len(data):
        if at + 2 > len(data):
            return None
        tag, length, at = data[at], data[at + 1], at + 2
        if length >= 0x80:
            more = length - 0x80
            length, at = int.from_bytes(data[at : at + more], "big"), at + more
        if at + length > len(data):
            return None
        content, at = data[at : at + length], at + length
        skipped = _WRAPPING.get(tag, 0)
        inner = tree(content[skipped:]) if tag & 0x20 or tag in _WRAPPING else None
        found.append([tag, content[:skipped] if inner else b"", inner or content])
    return found


def encoded(values):
    out = b""
    for tag, before, content in values:
        if tag is None:  # as it is to be spelled
            out += content
            continue
        body = before + (content if isinstance(content, bytes) else encoded(content))
        size = len(body)
        long = size.to_bytes(2, "big").lstrip(b"\0") if size >= 0x80 else b""
        out += bytes((tag, 0x80 | len(long) if long else size)) + long + body
    return out


def all_lists(values):
    yield values
    for _, _, content in values:
        if isinstance(content, list):
            yield from all_lists(content)


def changed(der, draw):
    """One value anywhere dropped, doubled, moved, given another tag, or with other content."""
    values = tree(der)
    siblings = draw.choice([each for each in all_lists(values) if each])
    at = draw.randrange(len(siblings))
    value = siblings[at]
    match draw.randrange(6):
        case 0:
            del siblings[at]
        case 1:
            siblings.insert(at, value)
        case 2:
            draw.shuffle(siblings)
        case 3:
            value[0] = draw.choice(_TAGS)
        case _:
            old = value[2] if isinstance(value[2], bytes) else encoded(value[2])
            value[1], value[2] = b"", _other(value[1] + old, draw)
    return encoded(values)


def _other(content, draw):
    at = draw.randrange(len(content) + 1)
    octet = bytes((draw.choice((0, 1, 4, 5, 6, 7, 0x20, 0x41, 0x7F, 0x80, 0xFF, draw.randrange(256))),))
    match draw.randrange(4):
        case 0:
            return content[:at] + octet + content[at:]
        case 1:
            return content[: at - 1 if at else 0] + content[at:]
        case 2:
            return content[:at] + octet + content[at + 1 :]
        case _:
            return bytes(draw.randrange(256) for _ in range(draw.randrange(4)))


@settings(max_examples=EXAMPLES)
@given(st.integers(0, 10), st.integers(0, 2**32), st.integers(1, 3))
def test_what_is_taken_for_plain_the_library_takes_with_the_same_values(which, seed, changes):
    draw, der = random.Random(seed), plain_ones()[which]
    for _ in range(changes):
        der = changed(der, draw) or der
    found = read_plain(der)
    if found is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it warns of what it will refuse one day
        certificate, _ = open_certificate(der)
    assert dates_of(certificate) == (found.not_before, found.not_after)
    if found.svid is not None:
        assert read_leaf(der) == (found.not_before, found.not_after, found.svid)
    if found.is_ca:
        check_root(certificate)


_SERIAL, _SIGNED_WITH, _ISSUER, _FROM, _KEY = (0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4, 0), (0, 0, 6)
_EXTENSION = (0, 0, 7, 0)
_KEY_ID, _CONSTRAINTS, _USAGE, _PURPOSES, _NAMES = ((*_EXTENSION, each) for each in (0, 2, 3, 4, 5))
_PURPOSE = "06082b060105050703"
_SPELLED_OTHERWISE = {
    "version 2": ((0, 0, 0), "a003020101"),
    "no version": ((0, 0, 0), ""),
    "negative serial": (_SERIAL, "0201ff"),
    "serial zero": (_SERIAL, "020100"),
    "serial with a needless zero": (_SERIAL, "02020001"),
    "serial of 21 bytes": (_SERIAL, f"0215{'11' * 21}"),
    "another algorithm inside": (_SIGNED_WITH, "300a06082a8648ce3d040303"),
    "SHA-1": (_SIGNED_WITH, "300906072a8648ce3d0401"),
    "parameters that ECDSA has not": (_SIGNED_WITH, "300c06082a8648ce3d0403020500"),
    "signature with unused bits": ((0, 2), "0302013e"),
    "no signature": ((0, 2), "030100"),
    "a name in another alphabet": (_ISSUER, "300d310b300906035504031e020061"),
    "a name with characters that are not printable": (_ISSUER, "300d310b300906035504031302612a"),
    "a name that is no UTF-8": (_ISSUER, "300d310b300906035504030c02c328"),
    "two attributes in one part": (_ISSUER, "3017311530080603550403130161300906035504031302 6262"),
    "a time without seconds": (_FROM, "170b323630313031303030305a"),
    "a time with an offset": (_FROM, "17113236303130313030303030302b30303030"),
    "a time with a fraction": (_FROM, "181132303530303130313030303030302e315a"),
    "four digits of the year before 2050": (_FROM, "180f32303236303130313030303030305a"),
    "no such day": (_FROM, "170d3236303233303030303030305a"),
    "no such second": (_FROM, "170d3236303130313030303036305a"),
    "a point beside the curve": (_KEY, f"3059301306072a8648ce3d020106082a8648ce3d030107034200 04{'01' * 64}"),
    "a point of the other curve": (_KEY, f"3056301006072a8648ce3d020106052b81040022034200 04{'01' * 64}"),
    "the point at infinity": (_KEY, "3019301306072a8648ce3d020106082a8648ce3d03010703020000"),
    "an unknown curve": (_KEY, f"3056301006072a8648ce3d020106052b8104000a034200 04{'01' * 64}"),
    "an extension that is not known": (_KEY_ID, "300c0603551d1f04053003800101"),
    "an extension twice": (_KEY_ID, "300c0603551d130101ff04023000"),
    "FALSE spelled out": (_KEY_ID, "30100603551d0e01010004060404 01020304"),
    "TRUE as 1": (_CONSTRAINTS, "300c0603551d1301010104023000"),
    "a CA that says FALSE": (_CONSTRAINTS, "300f0603551d130101ff04053003010100"),
    "a path length without a CA": (_CONSTRAINTS, "300f0603551d130101ff04053003020100"),
    "a negative path length": (_CONSTRAINTS, "30120603551d130101ff040830060101ff0201ff"),
    "something behind the constraints": (_CONSTRAINTS, "300e0603551d130101ff040430000500"),
    "usages with zeros behind": (_USAGE, "300e0603551d0f0101ff040403020080"),
    "usages with an empty octet": (_USAGE, "300f0603551d0f0101ff04050303078000"),
    "no usages": (_USAGE, "300d0603551d0f0101ff0403030100"),
    "encipher only, and no agreement": (_USAGE, "300e0603551d0f0101ff040403020081"),
    "a purpose beside the two": (_PURPOSES, f"30270603551d250420301e{_PURPOSE}01{_PURPOSE}02{_PURPOSE}03"),
    "no purpose": (_PURPOSES, "30090603551d2504023000"),
    "no name": (_NAMES, "30090603551d1104023000"),
    "a name of a kind that is not read": (_NAMES, "300e0603551d110407300588032a0304"),
    "a name that is no ASCII": (_NAMES, "300d0603551d11040630048602c3a4"),
    "an address of five bytes": (_NAMES, "30100603551d110409300787050102030405"),
}


@pytest.mark.parametrize("name", _SPELLED_OTHERWISE)
def test_what_is_odd_is_left_to_the_library(name):
    path, new = _SPELLED_OTHERWISE[name]
    values = parsed = tree(plain_ones()[1])
    for at in path[:-1]:
        values = values[at][2]
    values[path[-1]] = [None, b"", bytes.fromhex(new)]
    assert read_plain(encoded(parsed)) is None


def test_lengths_have_one_spelling_and_nothing_follows():
    der = plain_ones()[1]
    at = der.index(bytes.fromhex("300e310c300a0603550403"))
    body, rest = der[4:at], der[at + 2 :]
    assert read_plain(b"\x30\x82" + (len(der) - 4).to_bytes(2, "big") + der[4:]) is not None
    for other in (
        der + b"\0",
        der[:-1],
        b"\x30\x83\x00" + der[2:],
        b"\x30\x80" + der[4:] + b"\0\0",
        b"\x30\x82" + (len(der) - 3).to_bytes(2, "big") + body + b"\x30\x81\x0e" + rest,
        b"\x3f\x10" + der[1:],
        b"",
        b"\x30",
        b"\x30\x82\x01",
    ):
        assert read_plain(other) is None


@pytest.mark.parametrize("bits", [0x84, 0x82, 0x40])
def test_who_signs_or_does_not_authenticate_is_nobody(bits):
    """Such certificates may be read, but make no identity: the library names why."""
    parsed = tree(plain_ones()[1])
    unused = (bits & -bits).bit_length() - 1
    values = parsed
    for at in _USAGE[:-1]:
        values = values[at][2]
    values[_USAGE[-1]] = [None, b"", bytes.fromhex("300e0603551d0f0101ff04040302") + bytes((unused, bits))]
    found = read_plain(encoded(parsed))
    assert found is not None
    assert found.svid is None
