"""Istio's RequestAuthentication: what is valid, what is missing, what is refused and with which status."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from meshpy.engine.authenticate import LEEWAY_S, Accepted, Authenticator, Refused
from meshpy.engine.claims import auth_of
from meshpy.engine.inbound import as_authenticated, judge_inbound
from meshpy.engine.request import Peer, Request
from meshpy.jose import JwksError
from meshpy.model.authn import JwtRule, TokenHeader
from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Condition,
    Source,
)
from meshpy.model.endpoint import Protocol
from meshpy.model.match import Exact, Present
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot, Workload
from tests.helpers.tokens import ISSUER, b64, claims, jwks, key, token

NOW = 1_800_000_000.0
BEARER = TokenHeader("authorization", "Bearer ")
RULE = JwtRule(
    "RequestAuthentication shop/jwt",
    "jwtRules[0]",
    ISSUER,
    jwks=jwks(key()),
    from_headers=(BEARER,),
    from_params=("access_token",),
)


def request(*authorization: str, query: str = "", **headers: str | list[str]) -> Request:
    fields = {name.replace("_", "-"): [v] if isinstance(v, str) else v for name, v in headers.items()}
    if authorization:
        fields["authorization"] = list(authorization)
    return Request("GET", "/", query, "api", "http", fields)


def ask(asked: Request, *rules: JwtRule, now: float | None = NOW) -> Accepted | Refused:
    return Authenticator(rules or (RULE,)).authenticate(asked, now)


def accepted(asked: Request, *rules: JwtRule) -> Accepted:
    outcome = ask(asked, *rules)
    assert isinstance(outcome, Accepted), outcome
    return outcome


def refused(asked: Request, *rules: JwtRule) -> Refused:
    outcome = ask(asked, *rules)
    assert isinstance(outcome, Refused), outcome
    return outcome


def test_a_valid_token_is_the_identity_of_the_request():
    outcome = accepted(request(f"Bearer {token(key(), claims(aud=['a', 'b'], azp='spa', scope='r w'))}"))
    auth = outcome.auth
    assert auth is not None
    assert (auth.principal, auth.audiences, auth.presenter) == (f"{ISSUER}/jane", ("a", "b"), "spa")
    assert auth.texts(("scope",)) == ("r", "w")
    assert outcome.drop == {"authorization"}


def test_a_request_without_a_token_passes_without_an_identity():
    for asked in (request(), request("Basic YTpi"), request(query="a=b"), request("Bearertoken")):
        assert accepted(asked) == Accepted(None)


def test_a_wrong_token_never_passes_and_says_which_policy_refused_it():
    outcome = refused(request("Bearer nonsense"))
    assert (outcome.status, outcome.policy, outcome.rule) == (401, RULE.policy, RULE.name)
    assert outcome.verdict.stage == "jwt"
    assert not outcome.verdict.allowed
    for text in ("Bearer ", f"Bearer {token(key('ES256', 'other'))}", "bearer x"):
        assert refused(request(text)).status == 401


@pytest.mark.parametrize(
    ("times", "says"),
    [
        ({"exp": NOW + 1}, ""),
        ({"exp": NOW - LEEWAY_S}, ""),
        ({"exp": NOW - LEEWAY_S - 1}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": -1}, "expired"),
        ({}, ""),
        ({"nbf": NOW + LEEWAY_S}, ""),
        ({"nbf": NOW + LEEWAY_S + 1}, "not valid yet"),
        ({"iat": NOW + LEEWAY_S}, ""),
        ({"iat": NOW + LEEWAY_S + 1}, "not valid yet"),
        ({"exp": NOW + 0.5, "nbf": 1.5}, ""),
        ({"exp": str(NOW + 100)}, "exp is no number"),
        ({"exp": True}, "exp is no number"),
        ({"exp": None}, "exp is no number"),
        ({"nbf": [1]}, "nbf is no number"),
        ({"exp": 10**400}, "exp is no time"),
    ],
)
def test_times_have_a_leeway_of_a_minute_and_must_be_numbers(times, says):
    outcome = ask(request(f"Bearer {token(key(), claims(**times))}"))
    assert isinstance(outcome, Refused) is bool(says)
    assert not says or says in outcome.reason


def test_a_token_that_was_verified_expires_all_the_same():
    authenticator = Authenticator((RULE,))
    asked = request(f"Bearer {token(key(), claims(exp=NOW + 10))}")
    first, again = authenticator.authenticate(asked, NOW), authenticator.authenticate(asked, NOW)
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert again.auth is first.auth
    assert isinstance(authenticator.authenticate(asked, NOW + 100), Refused)
    assert isinstance(authenticator.authenticate(asked, None), Accepted)


@pytest.mark.parametrize(
    ("audience", "status"),
    [("a", 0), (["x", "b"], 0), ("x", 403), (["x"], 403), ([], 403), (None, 403), ({"a": 1}, 403), (5, 403)],
)
def test_a_token_must_be_meant_for_one_of_the_audiences(audience, status):
    rule = replace(RULE, audiences=("a", "b"))
    outcome = ask(request(f"Bearer {token(key(), claims(aud=audience))}"), rule)
    assert (outcome.status if isinstance(outcome, Refused) else 0) == status


def test_the_issuer_decides_which_keys_count():
    other = replace(RULE, name="jwtRules[1]", issuer="https://other", jwks=jwks(key("ES256", "o")))
    theirs = token(key("ES256", "o"), {"iss": "https://other", "sub": "jim"})
    auth = accepted(request(f"Bearer {theirs}"), RULE, other).auth
    assert auth is not None
    assert auth.principal == "https://other/jim"
    stolen = token(key("ES256", "o"), claims())
    assert "kid" in refused(request(f"Bearer {stolen}"), RULE, other).reason
    for issuer in (None, "https://idp.test/", "HTTPS://IDP.TEST", 5, [ISSUER]):
        outcome = refused(request(f"Bearer {token(key(), {'iss': issuer, 'sub': 'x'})}"))
        assert "issuer is not accepted" in outcome.reason


def test_two_rules_of_an_issuer_are_alternatives():
    for_a, for_b = replace(RULE, audiences=("a",)), replace(RULE, audiences=("b",), name="jwtRules[1]")
    assert accepted(request(f"Bearer {token(key(), claims(aud='b'))}"), for_a, for_b).auth
    assert refused(request(f"Bearer {token(key(), claims(aud='c'))}"), for_a, for_b).rule == "jwtRules[0]"


def test_an_issuer_whose_keys_are_not_known_yet_has_no_valid_token():
    rule = replace(RULE, jwks="")
    assert "not known yet" in refused(request(f"Bearer {token(key())}"), rule).reason
    assert accepted(request(), rule).auth is None
    with pytest.raises(JwksError):
        Authenticator((replace(RULE, jwks="{}"),))


def test_a_principal_needs_issuer_and_subject():
    for subject in (None, "", 5):
        auth = accepted(request(f"Bearer {token(key(), {'iss': ISSUER, 'sub': subject})}")).auth
        assert auth is not None
        assert auth.principal == ""


EVERYWHERE = replace(
    RULE,
    from_headers=(TokenHeader("x-jwt"), TokenHeader("authorization", "JWT ")),
    from_params=("tok",),
    from_cookies=("session",),
)


@pytest.mark.parametrize(
    "asked",
    [
        lambda t: request(x_jwt=t),
        lambda t: request(f"JWT {t}"),
        lambda t: request(query=f"a=b&tok={t}&c"),
        lambda t: request(cookie=f"a=b; session={t}; c=d"),
        lambda t: request(cookie=["a=b", f'session="{t}"']),
    ],
)
def test_a_token_is_found_where_the_rule_looks_and_nowhere_else(asked):
    assert accepted(asked(token(key())), EVERYWHERE).auth
    assert refused(asked("junk"), EVERYWHERE)
    nowhere = replace(EVERYWHERE, from_headers=(), from_params=("other",), from_cookies=())
    assert accepted(asked("junk"), nowhere).auth is None


def test_the_token_is_taken_out_unless_it_is_forwarded():
    text = token(key())
    asked = request(
        f"JWT {text}", "Basic YTpi", query=f"a=b&tok={text}", cookie=[f"a=b; session={text}", "c=d"]
    )
    outcome = accepted(asked, EVERYWHERE)
    rest = as_authenticated(asked, outcome)
    assert rest.query == "a=b"
    assert rest.headers["authorization"] == ["Basic YTpi"]
    assert rest.headers["cookie"] == ["a=b; c=d"]
    assert rest.auth is outcome.auth
    kept = accepted(asked, replace(EVERYWHERE, forward=True))
    assert (kept.drop, kept.query) == (frozenset(), None)


def test_every_token_must_be_valid_and_the_first_one_is_the_identity():
    one, two = token(key()), token(key(), claims(sub="jim"))
    auth = accepted(request(x_jwt=one, query=f"tok={two}"), EVERYWHERE).auth
    assert auth is not None
    assert auth.principal == f"{ISSUER}/jane"
    assert refused(request(x_jwt=one, query="tok=junk"), EVERYWHERE)
    assert refused(request(f"Bearer {one}", "Bearer junk"))
    assert accepted(request(f"Bearer {one}", f"Bearer {one}")).auth


def test_claims_reach_the_app_in_headers_that_nobody_else_can_write():
    rule = replace(
        RULE,
        payload_header="x-payload",
        claim_headers=(
            ("x-sub", ("sub",)),
            ("x-level", ("a", "level")),
            ("x-ok", ("ok",)),
            ("x-groups", ("groups",)),
            ("x-name", ("name",)),
            ("x-evil", ("evil",)),
            ("x-none", ("none",)),
            ("x-null", ("null",)),
        ),
    )
    payload = claims(
        a={"level": 3}, ok=True, groups=["x", "y"], name="Zoë", evil="a\r\nx-admin: 1", null=None
    )
    asked = request(f"Bearer {token(key(), payload)}", x_sub="root", x_none="forged")
    rest = as_authenticated(asked, accepted(asked, rule)).headers
    assert rest["x-payload"] == [b64(json.dumps(payload))]
    assert (rest["x-sub"], rest["x-level"], rest["x-ok"]) == (["jane"], ["3"], ["true"])
    assert rest["x-groups"] == [b64('["x","y"]')]
    assert rest["x-name"] == ["Zoë".encode().decode("latin-1")]
    assert "x-evil" not in rest
    assert "x-none" not in rest
    anonymous = request(x_sub="root", x_payload="forged")
    assert set(as_authenticated(anonymous, accepted(anonymous, rule)).headers) == set()


def test_the_memory_of_verified_tokens_is_bounded():
    authenticator = Authenticator((RULE,))
    for number in range(1100):
        authenticator.authenticate(request(f"Bearer {token(key('EdDSA'), claims(n=number))}"), NOW)
    assert len(authenticator._known) == 0
    rule = replace(RULE, jwks=jwks(key("EdDSA")))
    authenticator = Authenticator((rule,))
    for number in range(1100):
        authenticator.authenticate(request(f"Bearer {token(key('EdDSA'), claims(n=number))}"), NOW)
    assert 0 < len(authenticator._known) <= 1024
    huge = token(key("EdDSA"), claims(pad="x" * 6000))
    before = len(authenticator._known)
    assert isinstance(authenticator.authenticate(request(f"Bearer {huge}"), NOW), Accepted)
    assert len(authenticator._known) == before


def test_claims_may_be_assumed_but_not_those_of_a_stranger():
    authenticator = Authenticator((replace(RULE, audiences=("a",)),))
    good = authenticator.assume(auth_of(claims(aud="a")))
    assert isinstance(good, Accepted)
    assert good.auth is not None
    assert good.auth.principal == f"{ISSUER}/jane"
    wrong = authenticator.assume(auth_of(claims(aud="b")))
    assert isinstance(wrong, Refused)
    assert wrong.status == 403
    assert isinstance(authenticator.assume(auth_of({"iss": "x"})), Refused)
    assert Authenticator(()).assume(auth_of(claims())) == Accepted(None)


def test_rules_of_one_issuer_are_alternatives_for_assumed_claims_too():
    """As for signed tokens: what the first rule refuses the next may accept."""
    rules = (replace(RULE, audiences=("a",)), replace(RULE, name="jwtRules[1]", audiences=("b",)))
    for audience in ("a", "b"):
        assert isinstance(Authenticator(rules).assume(auth_of(claims(aud=audience))), Accepted)
    refusal = Authenticator(rules).assume(auth_of(claims(aud="c")))
    assert isinstance(refusal, Refused)
    assert (refusal.status, refusal.rule) == (403, "jwtRules[0]")


def snapshot(*policies: AuthorizationPolicy, rules=(RULE,)) -> Snapshot:
    auth = Authorization(policies=policies, baseline_external=frozenset({80}))
    return Snapshot("v", 1, Workload(ServiceName("shop", "api"), "cluster.local"), auth, jwt=rules)


def policy(action: str, source: Source | None = None, *when: Condition) -> AuthorizationPolicy:
    rule = AuthorizationRule("rules[0]", (source,) if source else (), (), when)
    return AuthorizationPolicy("AuthorizationPolicy shop/p", Action(action), (rule,))


def test_the_order_is_network_then_token_then_policies():
    peer, bad = Peer(None, "", "192.0.2.1"), request("Bearer junk")
    assert judge_inbound(snapshot(), peer, 81, Protocol.HTTP, bad)[0].stage == "baseline"
    for policies in ((), (policy("DENY"),), (policy("ALLOW"),)):
        verdict, steps = judge_inbound(snapshot(*policies), peer, 80, Protocol.HTTP, bad)
        assert (verdict.stage, verdict.policy) == ("jwt", RULE.policy)
        assert [step.stage for step in steps] == ["jwt"]
    demanded = snapshot(policy("ALLOW", Source(request_principals=(Present(),))))
    assert judge_inbound(demanded, peer, 80, Protocol.HTTP, request())[0].stage == "allow"
    good = request(f"Bearer {token(key())}")
    verdict, steps = judge_inbound(demanded, peer, 80, Protocol.HTTP, good)
    assert verdict.allowed
    assert steps[0].stage == "jwt"
    assert "https://idp.test/jane" in steps[0].why
    assert judge_inbound(snapshot(), peer, 80, Protocol.TCP, None)[0].allowed


def test_policies_see_the_request_as_the_app_will():
    rule = replace(RULE, claim_headers=(("x-sub", ("sub",)),))
    on_header = policy("ALLOW", None, Condition("request.headers[x-sub]", (Exact("jane"),)))
    peer = Peer(None, "", "192.0.2.1")
    asked = request(f"Bearer {token(key())}")
    assert judge_inbound(snapshot(on_header, rules=(rule,)), peer, 80, Protocol.HTTP, asked)[0].allowed
    forged = request(x_sub="jane")
    assert not judge_inbound(snapshot(on_header, rules=(rule,)), peer, 80, Protocol.HTTP, forged)[0].allowed
    on_token = policy("DENY", None, Condition("request.headers[authorization]", (Present(),)))
    assert judge_inbound(snapshot(on_token), peer, 80, Protocol.HTTP, asked)[0].allowed
