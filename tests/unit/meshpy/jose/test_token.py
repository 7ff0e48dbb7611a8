"""Tokens and key sets: the RFCs' own examples, every accepted algorithm, and what attackers send."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshpy.jose import JwksError, TokenError, parse_jwks, read_token, verify
from tests.helpers.tokens import SigningKey, b64, claims, hs256, jwks, key, token

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

RFC7515_A3_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
RFC7515_A3 = (
    "eyJhbGciOiJFUzI1NiJ9."
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
RFC7515_A2_KEY = {
    "kty": "RSA",
    "n": (
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ"
        "S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2"
        "R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcD"
        "TW9gb54h4FRWyuXpoQ"
    ),
    "e": "AQAB",
}
RFC7515_A2 = (
    "eyJhbGciOiJSUzI1NiJ9."
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7"
    "t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi1"
    "2jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGl"
    "UPQGe77Rw"
)


@pytest.mark.parametrize(("member", "text"), [(RFC7515_A2_KEY, RFC7515_A2), (RFC7515_A3_KEY, RFC7515_A3)])
def test_the_examples_of_rfc_7515_verify(member, text):
    read = read_token(text)
    verify(read, parse_jwks(jwks(member)))
    assert read.payload["iss"] == "joe"
    head, payload, signature = text.split(".")
    turned = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    with pytest.raises(TokenError, match="signature is wrong"):
        verify(read_token(f"{head}.{payload}.{turned}"), parse_jwks(jwks(member)))


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_every_asymmetric_algorithm_verifies_its_own_and_nothing_else(alg):
    signer = key(alg)
    verify(read_token(token(signer)), parse_jwks(jwks(signer)))
    changed = token(signer).split(".")
    changed[1] = b64(json.dumps(claims(sub="root")))
    with pytest.raises(TokenError, match="signature is wrong"):
        verify(read_token(".".join(changed)), parse_jwks(jwks(signer)))
    with pytest.raises(TokenError, match="signature is wrong"):
        verify(read_token(token(signer)), parse_jwks(jwks(key(alg, "other").public(kid=signer.kid))))
    with pytest.raises(TokenError):
        read_token(".".join([*token(signer).split(".")[:2], "!"]))


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "RS1", "ES256K"]
)
def test_none_and_shared_secrets_are_no_algorithms(alg):
    signer = key()
    unsigned = ".".join([*token(signer, header={"alg": alg}).split(".")[:2], ""])
    for text in (unsigned, token(signer, header={"alg": alg})):
        with pytest.raises(TokenError, match="algorithm is not accepted"):
            read_token(text)


@pytest.mark.parametrize("header", [{"alg": None}, {"alg": 5}, {"alg": ["ES256"]}, {"alg": {}}])
def test_an_algorithm_that_is_no_string_is_refused(header):
    with pytest.raises(TokenError, match="algorithm is not accepted"):
        read_token(token(key(), header=header))


def test_a_public_key_is_never_a_shared_secret():
    """The confusion of CVE-2015-9235: HS256 over the bytes of the RSA key that everybody knows."""
    signer = key("RS256")
    public = signer.private.public_key()
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.PKCS1),
        jwks(signer).encode(),
    ):
        with pytest.raises(TokenError, match="algorithm is not accepted"):
            read_token(hs256(secret, claims()))


def test_a_key_is_used_for_its_algorithm_and_type_alone():
    rsa_key, signer = key("RS256"), key("PS256", "k1")
    same = SigningKey("PS256", "k1", rsa_key.private)
    verify(read_token(token(same)), parse_jwks(jwks(rsa_key)))
    with pytest.raises(TokenError, match="kid and algorithm"):
        verify(read_token(token(same)), parse_jwks(jwks(rsa_key.public(alg="RS256"))))
    with pytest.raises(TokenError, match="kid and algorithm"):
        verify(read_token(token(signer)), parse_jwks(jwks(key("ES256"), key("EdDSA"))))
    p384 = key("ES384")
    pretended = token(p384, header={"alg": "ES256"})
    with pytest.raises(TokenError, match="kid and algorithm"):
        verify(read_token(pretended), parse_jwks(jwks(p384)))


def test_the_kid_chooses_among_keys_and_names_nothing_else():
    one, two = key("ES256", "one"), key("ES256", "two")
    both = parse_jwks(jwks(one, two))
    verify(read_token(token(two)), both)
    with pytest.raises(TokenError, match="signature is wrong"):
        verify(read_token(token(two, header={"kid": "one"})), both)
    for kid in ("../../etc/passwd", "' OR 1=1", "three", "http://evil/jwks"):
        with pytest.raises(TokenError, match="kid and algorithm"):
            verify(read_token(token(one, header={"kid": kid})), both)
    with pytest.raises(TokenError, match="kid is no string"):
        read_token(token(one, header={"kid": 1}))
    without_kid = {name: value for name, value in one.public().items() if name != "kid"}
    verify(read_token(token(one)), parse_jwks(jwks(without_kid)))
    verify(read_token(token(two, header={"kid": ""})), both)


def test_keys_that_a_token_brings_along_are_not_looked_at():
    evil = key("ES256", "evil")
    header = {"jwk": evil.public(), "jku": "http://127.0.0.1/jwks", "x5u": "http://127.0.0.1/", "kid": "k1"}
    with pytest.raises(TokenError, match="signature is wrong"):
        verify(read_token(token(evil, header=header)), parse_jwks(jwks(key())))


def test_extensions_that_must_be_understood_are_refused():
    for header in ({"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": True}):
        with pytest.raises(TokenError, match="extension"):
            read_token(token(key(), header=header))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not three parts"),
        ("a.b", "not three parts"),
        ("a.b.c.d.e", "not three parts"),
        ("....", "not three parts"),
        ("!.e30.", "no base64url"),
        ("e30=.e30.", "no base64url"),
        ("e30 .e30.", "no base64url"),
        ("e31.e30.", "canonical"),
        (f"{b64('[]')}.e30.", "no JSON object"),
        (f"{b64('{')}.e30.", "no JSON"),
        (f"{b64(b'{' + bytes([0xFF]) + b'}')}.e30.", "no UTF-8"),
        (b64('{"alg":"ES256","alg":"none"}') + ".e30.", "name twice"),
        (b64('{"alg":NaN}') + ".e30.", "NaN"),
        (b64('{"a":' + "[" * 5000 + "]" * 5000 + "}") + ".e30.", "too deep"),
        ("a" * 20000, "more than 16384 characters"),
    ],
)
def test_what_is_no_token_is_refused_with_its_reason(text, says):
    with pytest.raises(TokenError, match=says):
        read_token(text)


def test_a_payload_is_one_object_without_doubles():
    for payload in ('{"sub":"a","sub":"b"}', "[]", "1", '"x"', "{} {}", '{"exp":1e400,"a":Infinity}'):
        with pytest.raises(TokenError):
            read_token(token(key(), payload))


def test_a_signature_of_zeros_is_wrong():
    """CVE-2022-21449: r = s = 0 must verify nothing."""
    head, payload, _ = token(key()).split(".")
    for zeros in (bytes(64), b"", bytes(63), bytes(65), b"\x01" * 64):
        with pytest.raises(TokenError, match="signature is wrong"):
            verify(read_token(f"{head}.{payload}.{b64(zeros)}"), parse_jwks(jwks(key())))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "has no `keys`"),
        ('{"keys": []}', "has no `keys`"),
        ('{"keys": {}}', "has no `keys`"),
        ("[]", "is no JSON object"),
        ("-----BEGIN PUBLIC KEY-----", "is no JSON"),
        ('{"keys": [1]}', "is no object"),
        ('{"keys": [{"kty": "oct", "k": "AAAA"}]}', "is a shared secret"),
        ('{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}', "bits; 2048 to 8192"),
        ('{"keys": [{"kty": "RSA", "e": "AQAB"}]}', "has no `n`"),
        ('{"keys": [{"kty": "EC", "crv": "secp256k1"}]}', "a curve that is not"),
        ('{"keys": [{"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}]}', "no key of the set"),
        ('{"keys": [{"kty": "OKP", "crv": "X25519", "x": "AQ"}]}', "a type that is not"),
        ('{"keys": [{"kty": "RSA", "use": "enc"}]}', "not for signatures"),
        ('{"keys": [{"kty": "RSA", "key_ops": ["sign"]}]}', "not for verifying"),
        (json.dumps({"keys": [{}] * 101}), "at most 100"),
    ],
)
def test_a_set_without_a_usable_key_is_refused_with_its_reason(text, says):
    with pytest.raises(JwksError, match=says):
        parse_jwks(text)


def test_keys_that_cannot_be_used_are_skipped_and_told():
    found = parse_jwks(jwks({"kty": "oct", "k": "AAAA"}, key(), {"kty": "new"}))
    assert len(found.keys) == 1
    assert [what.split(" ")[0] for what in found.skipped] == ["keys[0]", "keys[2]"]


def test_a_token_without_kid_tries_a_bounded_number_of_keys():
    keys = [key("ES256", f"k{number}") for number in range(12)]
    found = parse_jwks(jwks(*keys))
    verify(read_token(token(keys[7], header={"kid": ""})), found)
    with pytest.raises(TokenError, match="signature is wrong"):
        verify(read_token(token(keys[11], header={"kid": ""})), found)
    verify(read_token(token(keys[11])), found)


def test_short_rsa_keys_are_refused():
    short = SigningKey("RS256", "k1", rsa.generate_private_key(65537, 1024))
    with pytest.raises(JwksError, match="1024 bits"):
        parse_jwks(jwks(short))
