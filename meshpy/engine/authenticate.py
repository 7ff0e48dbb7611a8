"""Istio RequestAuthentication: is the token of a request valid, and what does it say?

Without a token a request passes without an identity; with one that is not valid it does not pass, whatever
policies allow. Every token that stands where a rule looks must be valid; the first one is the identity.
Source: istio.io/latest/docs/reference/config/security/request_authentication.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from meshpy.engine.claims import RequestAuth, audiences_of, auth_of
from meshpy.engine.request import Request
from meshpy.engine.token_places import Found, found_by, without
from meshpy.engine.verdict import Verdict
from meshpy.jose import KeySet, Token, TokenError, parse_jwks, read_token, verify
from meshpy.jose.encoding import encode_base64url
from meshpy.model.authn import JwtRule

__all__ = ["LEEWAY_S", "Accepted", "Authenticator", "Refused"]

LEEWAY_S = 60.0
"""Clocks of issuer and sidecar may differ by so much (Envoy's clock_skew_seconds)."""

_MEMO_TOKENS = 1024
_MEMO_TOKEN_CHARS = 4096
_HEADER_TEXT = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")


class Accepted(NamedTuple):
    """The request may go on to be authorized.

    Args:
        auth: None when it carried no token.
        drop: header names that the app must not receive as they came, lower case.
        add: header fields for the app.
        query: replaces the query, which carried a token; None leaves it.
    """

    auth: RequestAuth | None
    drop: frozenset[str] = frozenset()
    add: tuple[tuple[str, str], ...] = ()
    query: str | None = None


class Refused(NamedTuple):
    """Args:
    status: 401; 403 when the token is good and meant for others (Envoy).
    reason: for logs and callers of the mesh.
    public: for everybody: it names no issuer and no audience.
    """

    status: int
    reason: str
    policy: str
    rule: str
    public: str = ""

    @property
    def verdict(self) -> Verdict:
        return Verdict(False, "jwt", self.policy, self.rule, self.reason)


class _Verified(NamedTuple):
    auth: RequestAuth
    not_before: float
    not_after: float
    headers: tuple[tuple[str, str], ...]


class _Wrong(Exception):  # noqa: N818 - the reason of a refusal, never seen outside
    def __init__(self, reason: str, status: int = 401, public: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.public = public or reason

    def by(self, rule: JwtRule) -> Refused:
        return Refused(self.status, str(self), rule.policy, rule.name, self.public)


class Authenticator:
    """The rules of one workload, with what was verified lately.

    Args:
        params: query parameters that may be tokens.

    Raises:
        JwksError: a rule's key set cannot be read.
    """

    __slots__ = ("_anonymous", "_keys", "_known", "_rules", "_whole", "params")

    def __init__(self, rules: Sequence[JwtRule]) -> None:
        self._rules = tuple(rules)
        self._keys = [parse_jwks(rule.jwks) if rule.jwks else KeySet() for rule in rules]
        self._known: dict[tuple[int, str], _Verified] = {}
        self._whole: dict[tuple[int, str, str], tuple[_Verified, Accepted]] = {}
        written = {name for rule in rules for name, _ in rule.claim_headers}
        written |= {rule.payload_header for rule in rules if rule.payload_header}
        self._anonymous = Accepted(None, frozenset(written))
        self.params = frozenset(name for rule in rules for name in rule.from_params)

    def authenticate(self, request: Request, now_s: float | None) -> Accepted | Refused:
        """Judge the tokens of a request.

        Args:
            now_s: seconds since the epoch; None asks as if every token were in its time.
        """
        places = [(found, i) for i, rule in enumerate(self._rules) for found in found_by(rule, request)]
        if not places:
            return self._anonymous
        if len(places) == 1 and places[0][0].is_alone:
            return self._authenticate_one(*places[0], now_s)
        candidates: dict[str, list[int]] = {}
        for found, index in places:
            candidates.setdefault(found.token, []).append(index)
        accepted: dict[str, tuple[int, _Verified]] = {}
        for token, indices in candidates.items():
            try:
                accepted[token] = self._verified(token, indices, now_s)
            except _Wrong as wrong:
                return wrong.by(self._rules[indices[0]])
        return self._accepted(request, [found for found, _ in places], accepted)

    def _authenticate_one(self, found: Found, index: int, now_s: float | None) -> Accepted | Refused:
        """The usual case, one token in a header of its own: what is made of it is remembered too."""
        rule = self._rules[index]
        known = self._whole.get((index, found.name, found.token))
        try:
            if known is not None:
                _check_times(known[0], now_s)
                return known[1]
            _, verified = self._verified(found.token, (index,), now_s)
        except _Wrong as wrong:
            return wrong.by(rule)
        drop = self._anonymous.drop if rule.forward else self._anonymous.drop | {found.name}
        accepted = Accepted(verified.auth, drop, verified.headers)
        if (index, found.token) in self._known:
            self._whole[index, found.name, found.token] = (verified, accepted)
        return accepted

    def assume(self, auth: RequestAuth) -> Accepted | Refused:
        """Judge claims as those of a token that is signed and in its time, wherever it stood."""
        payload = auth.claims
        first: Refused | None = None
        for rule in self._rules:
            if payload.get("iss") != rule.issuer:
                continue
            try:
                _check_audience(rule, payload)
            except _Wrong as wrong:
                first = first or wrong.by(rule)
                continue
            # claims are split at spaces already, unless the rule names more of them
            split = auth_of(payload, rule.space_delimited) if rule.space_delimited else auth
            return Accepted(split, self._anonymous.drop)
        if not self._rules:
            return self._anonymous
        return first or _unknown_issuer(self._rules).by(self._rules[0])

    def _accepted(
        self, request: Request, places: Sequence[Found], accepted: Mapping[str, tuple[int, _Verified]]
    ) -> Accepted:
        taken = [each for each in places if not self._rules[accepted[each.token][0]].forward]
        rest = without(request, taken)
        add, auth = list(rest.add), None
        for _, verified in accepted.values():
            auth = auth or verified.auth
            add += verified.headers
        return Accepted(auth, self._anonymous.drop | rest.drop, tuple(add), rest.query)

    def _verified(self, token: str, indices: Sequence[int], now_s: float | None) -> tuple[int, _Verified]:
        for index in indices:
            known = self._known.get((index, token))
            if known is not None:
                _check_times(known, now_s)
                return index, known
        return self._verify(token, indices, now_s)

    def _verify(self, token: str, indices: Sequence[int], now_s: float | None) -> tuple[int, _Verified]:
        """Try the rules of the token's issuer in order; the first one's reason is told."""
        try:
            read = read_token(token)
        except TokenError as error:
            raise _Wrong(str(error)) from None
        issuer = read.payload.get("iss")
        meant = [index for index in dict.fromkeys(indices) if self._rules[index].issuer == issuer]
        if not meant:
            raise _unknown_issuer([self._rules[index] for index in indices])
        first: _Wrong | None = None
        for index in meant:
            try:
                verified = self._by_rule(index, read)
                _check_times(verified, now_s)
            except _Wrong as wrong:
                first = first or wrong
            else:
                self._remember(index, token, verified)
                return index, verified
        raise first or _Wrong("no rule accepts the token")

    def _by_rule(self, index: int, read: Token) -> _Verified:
        rule = self._rules[index]
        if not rule.jwks:
            what = f"the keys of {rule.issuer} are not known yet, so no token of it is valid"
            raise _Wrong(what, public="the token cannot be verified now")
        try:
            verify(read, self._keys[index])
        except TokenError as error:
            raise _Wrong(str(error)) from None
        _check_audience(rule, read.payload)
        return _read_claims(rule, read.payload, read.payload_text)

    def _remember(self, index: int, token: str, verified: _Verified) -> None:
        if len(token) > _MEMO_TOKEN_CHARS:
            return
        if len(self._known) >= _MEMO_TOKENS:
            self._known.clear()
            self._whole.clear()
        self._known[index, token] = verified


def _unknown_issuer(rules: Sequence[JwtRule]) -> _Wrong:
    what = "the token's issuer is not accepted here"
    listed = ", ".join(dict.fromkeys(rule.issuer for rule in rules))
    return _Wrong(f"{what}; these are: {listed}", public=what)


def _check_audience(rule: JwtRule, payload: Mapping[str, Any]) -> None:
    if rule.audiences and not set(rule.audiences) & set(audiences_of(payload)):
        what = f"the token is meant for none of {', '.join(rule.audiences)}"
        raise _Wrong(what, 403, "the token is meant for others")


def _check_times(verified: _Verified, now_s: float | None) -> None:
    if now_s is None:
        return
    if now_s > verified.not_after + LEEWAY_S:
        raise _Wrong("the token is expired")
    if now_s < verified.not_before - LEEWAY_S:
        raise _Wrong("the token is not valid yet")


def _read_claims(rule: JwtRule, payload: Mapping[str, Any], payload_text: str) -> _Verified:
    headers: list[tuple[str, str]] = []
    if rule.payload_header:
        headers.append((rule.payload_header, payload_text))
    for name, path in rule.claim_headers:
        text = _header_text(payload, path)
        if text is not None:
            headers.append((name, text))
    begins = max(_time(payload, "nbf", 0.0), _time(payload, "iat", 0.0))
    ends = _time(payload, "exp", float("inf"))
    return _Verified(auth_of(payload, rule.space_delimited), begins, ends, tuple(headers))


def _time(payload: Mapping[str, Any], name: str, default: float) -> float:
    value = payload.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong(f"the token's {name} is no number")
    try:
        return float(value)
    except OverflowError:
        raise _Wrong(f"the token's {name} is no time") from None


def _header_text(payload: Mapping[str, Any], path: Sequence[str]) -> str | None:
    """A claim as a header value, UTF-8 in latin-1; None when it is absent or would break the head."""
    found: Any = payload
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    match found:
        case str():
            text = found.strip()
        case bool() | int():
            text = json.dumps(found)
        case _:
            text = encode_base64url(json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode())
    if not text or not _HEADER_TEXT.fullmatch(text):
        return None
    return text.encode("utf-8", "replace").decode("latin-1")
