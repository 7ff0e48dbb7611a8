"""Istio RequestAuthentication.

Source: istio.io/latest/docs/reference/config/security/request_authentication.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from meshpy.jose import JwksError, parse_jwks
from meshpy.model.authn import JwtRule, TokenHeader
from meshpy.policy.attachment import ATTACH_REFUSED, ATTACHED_BY, attachment
from meshpy.policy.authn_kinds import JwtRuleDoc, RequestAuthenticationDoc
from meshpy.policy.kinds import Meta
from meshpy.policy.reader import Cursor, Fields
from meshpy.policy.strings import changeable_header, header_name

__all__ = ["request_authentication"]

_RULE = (
    "issuer",
    "audiences",
    "jwksUri",
    "jwks",
    "fromHeaders",
    "fromParams",
    "fromCookies",
    "forwardOriginalToken",
    "outputPayloadToHeader",
    "outputClaimToHeaders",
    "timeout",
    "spaceDelimitedClaims",
)
_DEFAULT_HEADERS = (TokenHeader("authorization", "Bearer "),)
_DEFAULT_PARAMS = ("access_token",)
_TIMEOUT_S = 5.0
_DISCOVERY = "/.well-known/openid-configuration"


def request_authentication(meta: Meta, spec: Cursor) -> RequestAuthenticationDoc:
    """Read `spec`; one without rules would check nothing and is refused."""
    fields = spec.fields((*ATTACHED_BY, "jwtRules"), ATTACH_REFUSED)
    attached = attachment(fields, meta)
    fields.required("jwtRules", "jwtRules: [{issuer: …, jwksUri: …}]")
    rules = tuple(_rule(item, meta, index) for index, item in enumerate(fields.items("jwtRules")))
    return RequestAuthenticationDoc(meta, rules, attached.selector, attached.place, attached.refs)


def _rule(cursor: Cursor, meta: Meta, index: int) -> JwtRuleDoc:
    fields = cursor.fields(_RULE)
    at_issuer = fields.required("issuer", "issuer: https://accounts.example.com")
    issuer = at_issuer.text() if at_issuer is not None else ""
    if at_issuer is not None and not issuer:
        at_issuer.problem("the issuer is empty and matches no token", "write what the tokens' iss says")
    jwks, uri = _keys(cursor, fields, issuer)
    from_headers = tuple(_token_header(item) for item in fields.items("fromHeaders"))
    from_params, from_cookies = _texts(fields, "fromParams"), _texts(fields, "fromCookies")
    if not (from_headers or from_params or from_cookies):
        from_headers, from_params = _DEFAULT_HEADERS, _DEFAULT_PARAMS
    at_payload = fields.get("outputPayloadToHeader")
    rule = JwtRule(
        meta.title,
        f"jwtRules[{index}]",
        issuer,
        _texts(fields, "audiences"),
        jwks,
        from_headers,
        from_params,
        from_cookies,
        fields.boolean("forwardOriginalToken"),
        _output_header(at_payload, from_headers) if at_payload is not None else "",
        tuple(_claim_header(item, from_headers) for item in fields.items("outputClaimToHeaders")),
        _texts(fields, "spaceDelimitedClaims"),
    )
    timeout_s = fields.duration("timeout", 0.001)
    return JwtRuleDoc(cursor.place, rule, uri, _TIMEOUT_S if timeout_s is None else timeout_s)


def _texts(fields: Fields, name: str) -> tuple[str, ...]:
    found = []
    for item in fields.items(name):
        text = item.text()
        if not text:
            item.problem("the string is empty and matches nothing", "write a value")
        found.append(text)
    return tuple(found)


def _keys(cursor: Cursor, fields: Fields, issuer: str) -> tuple[str, str]:
    """The keys themselves, or whence they are fetched; without either by OpenID discovery."""
    fields.only_one("jwks", "jwksUri")
    at_jwks, at_uri = fields.get("jwks"), fields.get("jwksUri")
    if at_jwks is not None:
        return _inline(at_jwks), ""
    if at_uri is not None:
        return "", _uri(at_uri)
    if not issuer.startswith("https://"):
        cursor.problem(
            "has neither `jwks` nor `jwksUri`, and the issuer is no https URL to look for them at",
            "write jwksUri: https://…, or jwks: '{\"keys\": […]}'",
        )
    return "", issuer.rstrip("/") + _DISCOVERY


def _inline(cursor: Cursor) -> str:
    text = cursor.text()
    try:
        skipped = parse_jwks(text).skipped
    except JwksError as error:
        cursor.problem(str(error), 'write the JSON of a key set: \'{"keys": [{"kty": "RSA", …}]}\'')
        return ""
    for what in skipped:
        cursor.problem(f"{what}, so no token can be verified with it", "remove that key")
    return text


def _uri(cursor: Cursor) -> str:
    text = cursor.text()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    is_plain = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme not in ("https", "http") or not host or port == 0 or not is_plain:
        cursor.problem(f"{text!r} is no http or https URL", "write https://HOST/PATH")
    elif parts.username is not None or parts.password is not None or parts.fragment:
        cursor.problem("a user, a password or a fragment does not belong here", "write https://HOST/PATH")
    return text


def _token_header(cursor: Cursor) -> TokenHeader:
    fields = cursor.fields(("name", "prefix"))
    at_name = fields.required("name", "name: x-jwt")
    name = header_name(at_name, at_name.text()).lower() if at_name is not None else ""
    return TokenHeader(name, fields.text("prefix"))


def _claim_header(cursor: Cursor, read: Sequence[TokenHeader]) -> tuple[str, tuple[str, ...]]:
    fields = cursor.fields(("header", "claim"))
    at_header, at_claim = (
        fields.required("header", "header: x-jwt-sub"),
        fields.required("claim", "claim: sub"),
    )
    path = tuple(at_claim.text().split(".")) if at_claim is not None else ()
    if at_claim is not None and not all(path):
        at_claim.problem(f"{at_claim.text()!r} names no claim", "write a name, or nested.names with dots")
    return (_output_header(at_header, read) if at_header is not None else "", path)


def _output_header(cursor: Cursor, read: Sequence[TokenHeader]) -> str:
    """A header that the app believes: it never arrives as a stranger wrote it."""
    name = changeable_header(cursor, cursor.text()).lower()
    if name.startswith("x-meshpy-") or name == "x-forwarded-client-cert":
        cursor.problem(f"{name} is written by the mesh itself", "write another name such as x-jwt-payload")
    if any(header.name == name for header in read):
        cursor.problem(f"{name} is where the token is read from", "write another name such as x-jwt-payload")
    return name
