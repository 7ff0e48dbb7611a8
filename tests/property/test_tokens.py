"""Tokens, key sets and answers of strangers: refused or read, never a crash, never a forgery."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from meshpy.engine.authenticate import Accepted, Authenticator, Refused
from meshpy.engine.request import Request
from meshpy.jose import JwksError, TokenError, parse_jwks, read_token, verify
from meshpy.model.authn import JwtRule, TokenHeader
from proxy.check_api import BadMessage, HttpCheck, encode_check, read_check, unframe
from tests.helpers.tokens import ISSUER, b64, jwks, key, token

KEYS = parse_jwks(jwks(key("ES256"), key("EdDSA", "k2"), key("RS256", "k3")))
GOOD = [token(key("ES256")), token(key("EdDSA", "k2")), token(key("RS256", "k3"))]
RULE = JwtRule(
    "p", "r", ISSUER, jwks=jwks(key("ES256")), from_headers=(TokenHeader("x-jwt"),), from_cookies=("t",)
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "azp", "scope", "alg", "kid", "typ", "x"])
objects = st.dictionaries(names, json_values, max_size=6)


@settings(max_examples=300)
@given(st.text(max_size=80) | st.lists(st.binary(max_size=40).map(b64), max_size=4).map(".".join))
def test_no_text_crashes_the_reader(text):
    with contextlib.suppress(TokenError):
        read_token(text)


@settings(max_examples=300)
@given(st.sampled_from(GOOD), st.integers(0, 2000), st.characters(codec="ascii"))
def test_a_token_with_another_character_is_never_signed(good, position, character):
    at = position % len(good)
    changed = good[:at] + character + good[at + 1 :]
    try:
        verify(read_token(changed), KEYS)
    except TokenError:
        return
    assert changed == good


@settings(max_examples=200)
@given(objects, objects)
def test_signed_nonsense_is_refused_or_read_but_never_crashes(payload, header):
    """An issuer may sign anything: claims of any type, in any place."""
    try:
        body = json.dumps({"iss": ISSUER, **payload})
        text = token(key("ES256"), body, {name: value for name, value in header.items() if name != "alg"})
    except (ValueError, UnicodeEncodeError):
        return
    request = Request("GET", "/", "", "api", "http", {"x-jwt": [text], "cookie": [f"t={text}; a"]})
    outcome = Authenticator((RULE,)).authenticate(request, 1e9)
    assert isinstance(outcome, Accepted | Refused)
    if isinstance(outcome, Accepted):
        assert outcome.auth is not None
        assert outcome.auth.principal in ("", f"{ISSUER}/{payload.get('sub')}")


@settings(max_examples=300)
@given(
    st.text(max_size=60)
    | st.builds(json.dumps, json_values)
    | st.builds(lambda o: json.dumps({"keys": [o]}), objects)
)
def test_no_text_crashes_the_reader_of_key_sets(text):
    with contextlib.suppress(JwksError):
        assert parse_jwks(text).keys


@settings(max_examples=500)
@given(st.binary(max_size=60))
def test_no_bytes_crash_the_reader_of_answers(data):
    for read in (read_check, unframe):
        with contextlib.suppress(BadMessage):
            read(data)


@settings(max_examples=200)
@given(st.text(max_size=20), st.binary(max_size=40), st.booleans(), st.integers(-1, 2**40))
def test_every_request_can_be_asked_about(text, body, as_bytes, size):
    check = HttpCheck(
        text,
        "GET",
        text,
        text,
        "http",
        "HTTP/1.1",
        ((text, text),),
        size,
        body,
        as_bytes,
        ("", 0, text),
        (text, 1, ""),
    )
    encoded = encode_check(check)
    assert encoded[0] == 0x0A
