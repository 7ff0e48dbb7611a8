"""CORS: the decision table of Envoy's filter, over Istio's policy."""

import pytest

from meshpy.engine.cors import CorsJudge, Grant, Preflight
from meshpy.engine.request import Request
from meshpy.engine.route import Direct, Routed, Router
from meshpy.model.match import Exact, Prefix, Regex
from meshpy.model.route import Cors, Destination, Forward, RouteRule, VirtualHost

SHOP = "https://shop.example"
POLICY = Cors(
    (Exact(SHOP), Prefix("https://cdn-"), Regex(r"https://[a-z]+\.lab\.example")),
    ("GET", "PUT"),
    ("x-token",),
    ("x-rate", "x-trace"),
    600,
    allow_credentials=True,
)


def request(method="GET", **headers):
    fields = {name.replace("_", "-"): [value] for name, value in headers.items()}
    return Request(method, "/", "", "api", "http", fields)


def preflight(origin, wanted="PUT", **more):
    return request("OPTIONS", origin=origin, access_control_request_method=wanted, **more)


@pytest.mark.parametrize("origin", [SHOP, "https://cdn-7", "https://a.lab.example"])
def test_a_request_of_an_allowed_origin_is_granted_its_answer(origin):
    grant = CorsJudge(POLICY).judge(request(origin=origin))
    assert isinstance(grant, Grant)
    assert dict(grant.headers) == {
        "access-control-allow-origin": origin,
        "vary": "Origin",
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "x-rate,x-trace",
    }
    assert set(grant.drop) == {
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-expose-headers",
    }


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request(origin=""),
        request(origin="https://shop.example.evil"),
        request(origin="https://SHOP.example"),
        preflight("https://evil.example"),
        Request("GET", "/", "", "api", "http", {"origin": [SHOP, SHOP]}),
    ],
)
def test_what_is_no_allowed_origin_is_none_of_its_business(asked):
    assert CorsJudge(POLICY).judge(asked) is None


def test_a_preflight_of_an_allowed_origin_is_answered_in_full():
    found = CorsJudge(POLICY).judge(preflight(SHOP))
    assert isinstance(found, Preflight)
    assert found.status == 200
    assert dict(found.grant.headers) == {
        "access-control-allow-origin": SHOP,
        "vary": "Origin",
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET,PUT",
        "access-control-allow-headers": "x-token",
        "access-control-max-age": "600",
    }


def test_options_without_a_wanted_method_is_no_preflight():
    assert isinstance(CorsJudge(POLICY).judge(request("OPTIONS", origin=SHOP)), Grant)


def test_unmatched_preflights_are_forwarded_or_answered_without_a_grant():
    judge = CorsJudge(Cors((Exact(SHOP),), forward_unmatched=False))
    assert judge.judge(preflight("https://evil.example")) == Preflight(200, None)
    assert judge.judge(request(origin="https://evil.example")) is None


def test_a_matcher_that_takes_a_star_takes_every_origin():
    for match in (Exact("*"), Regex(".*")):
        assert isinstance(CorsJudge(Cors((match,))).judge(request(origin="null")), Grant)


def test_a_star_names_what_was_asked_for_when_credentials_go_along():
    """A browser reads `*` as a name as soon as credentials are allowed (Fetch §3.2.5)."""
    asked = preflight(SHOP, "PATCH", access_control_request_headers="x-a, x-b")
    for credentials, methods, headers in ((True, "PATCH", "x-a, x-b"), (False, "*", "*")):
        policy = Cors((Exact("*"),), ("*",), ("*",), allow_credentials=credentials)
        found = dict(CorsJudge(policy).judge(asked).grant.headers)
        assert found["access-control-allow-methods"] == methods
        assert found["access-control-allow-headers"] == headers


def test_a_route_answers_preflights_and_marks_the_rest():
    rule = RouteRule(Forward((Destination("c"),)), cors=POLICY)
    router = Router([VirtualHost("api.shop", ("api",), (rule,))])
    answered = router.route(preflight(SHOP), 0)
    assert isinstance(answered, Direct)
    assert (answered.status, answered.body, answered.is_preflight) == (200, b"", True)
    forwarded = router.route(request(origin=SHOP), 0)
    assert isinstance(forwarded, Routed)
    assert forwarded.grant is not None
    assert router.route(request(), 0) is router.route(request(), 0)
    assert router.depends_on_headers
