"""Routing: which virtual host, which rule, which destination, which URL."""

import pytest

from meshpy.engine.match import MatchError
from meshpy.engine.request import Request
from meshpy.engine.route import Direct, NoRoute, Redirected, Routed, Router, WeightedChoice
from meshpy.model.match import Exact, HeaderMatch, PathTemplate, Prefix, Regex, RequestMatch, SegmentPrefix
from meshpy.model.route import (
    DerivePort,
    Destination,
    DirectResponse,
    Forward,
    Redirect,
    Rewrite,
    RouteRule,
    VirtualHost,
)

DERIVED, REQUESTED = DerivePort.FROM_PROTOCOL_DEFAULT, DerivePort.FROM_REQUEST_PORT


def request(path="/", authority="api:8080", method="GET", query="", scheme="http", **headers):
    return Request(method, path, query, authority, scheme, {k: [v] for k, v in headers.items()})


def to(cluster, *matches, **fields):
    return RouteRule(Forward((Destination(cluster),)), matches=tuple(matches), **fields)


def host(*rules, name="api.shop", domains=("api", "api.shop")):
    return VirtualHost(name, tuple(domains), tuple(rules))


def cluster_of(router, asked, draw=0.0):
    routing = router.route(asked, draw)
    return routing.destination.cluster if isinstance(routing, Routed) else None


@pytest.mark.parametrize(
    ("authority", "cluster"),
    [
        ("api", "exact"),
        ("api:8080", "exact"),
        ("API.:80", "exact"),
        ("a.example.com", "exact-sub"),
        ("b.example.com", "suffix"),
        ("x.b.example.com", "suffix"),
        ("x.deep.example.com:1", "deep"),
        ("example.com", "any"),
        ("elsewhere", "any"),
        ("", "any"),
        ("*", "any"),
    ],
)
def test_the_most_specific_domain_wins(authority, cluster):
    router = Router(
        [
            host(to("any"), name="any", domains=("*",)),
            host(to("suffix"), name="suffix", domains=("*.example.com",)),
            host(to("deep"), name="deep", domains=("*.deep.example.com",)),
            host(to("exact-sub"), name="sub", domains=("a.example.com",)),
            host(to("exact"), name="api", domains=("api",)),
        ]
    )
    assert cluster_of(router, request(authority=authority)) == cluster


def test_without_a_domain_the_default_host_answers_or_nobody():
    known = host(to("c"))
    assert cluster_of(Router([known], "api.shop"), request(authority="10.0.0.1")) == "c"
    missing = Router([known]).route(request(authority="10.0.0.1"), 0)
    assert isinstance(missing, NoRoute)
    assert missing.status == 404


def test_the_first_rule_of_which_any_match_holds_decides():
    router = Router(
        [
            host(
                to("jason", RequestMatch(headers=(HeaderMatch("end-user", Exact("jason")),))),
                to("ab", RequestMatch(path=Prefix("/a")), RequestMatch(path=Prefix("/b"))),
                to("post", RequestMatch(method=Exact("POST"))),
                to("rest"),
                to("never", RequestMatch(path=Exact("/z"))),
            )
        ]
    )
    assert cluster_of(router, request("/b")) == "ab"
    assert cluster_of(router, request("/b", **{"end-user": "jason"})) == "jason"
    assert cluster_of(router, request("/c", method="POST")) == "post"
    assert cluster_of(router, request("/z")) == "rest"
    assert router.depends_on_headers
    assert not router.depends_on_query


def test_a_host_without_a_matching_rule_has_no_route():
    routing = Router([host(to("a", RequestMatch(path=Exact("/a"))))]).route(request("/b"), 0)
    assert isinstance(routing, NoRoute)
    assert routing.virtual_host == "api.shop"


def test_the_index_keeps_the_order_of_the_rules():
    """Among 600 rules the first that holds wins, whatever the sort of its path."""
    filler = [to(f"f{i}", RequestMatch(path=Exact(f"/filler/{i}"))) for i in range(500)]
    rules = [
        to("early-regex", RequestMatch(path=Regex("/r/[0-9]+"))),
        *filler,
        to("long", RequestMatch(path=Prefix("/r/12"))),
        to("short", RequestMatch(path=Prefix("/r"))),
        to("too-late", RequestMatch(path=Exact("/r/x"))),
        to("segment", RequestMatch(path=SegmentPrefix("/s"))),
        to("cased", RequestMatch(path=Exact("/CASE"), ignore_path_case=True)),
        to("template", RequestMatch(path=PathTemplate("/t/{*}"))),
        to("spelled", RequestMatch(path=Exact("/{x}"))),
    ]
    router = Router([host(*rules)])
    for path, cluster in (
        ("/r/123", "early-regex"),
        ("/r/12x", "long"),
        ("/r/x", "short"),
        ("/filler/499", "f499"),
        ("/s", "segment"),
        ("/sx", None),
        ("/case", "cased"),
        ("/t/1", "template"),
        ("/%7Bx%7D", "spelled"),
        ("/none", None),
    ):
        assert cluster_of(router, request(path)) == cluster, path


def test_a_match_of_another_port_never_holds():
    rules = (to("other", RequestMatch(port=9090)), to("this", RequestMatch(port=8080)))
    assert cluster_of(Router([host(*rules)], port=8080), request()) == "this"
    assert cluster_of(Router([host(*rules)], port=9090), request()) == "other"


def test_draws_fall_to_destinations_exactly_by_weight():
    choice = WeightedChoice(
        (Destination("a", 90), Destination("off", 0), Destination("b", 9), Destination("c", 1))
    )
    picked = [choice.pick(i / 1000).cluster for i in range(1000)]
    assert {name: picked.count(name) for name in set(picked)} == {"a": 900, "b": 90, "c": 10}
    assert choice.pick(1 - 2**-53).cluster == "c"
    assert [(d.cluster, share) for d, share in choice.shares()] == [("a", 0.9), ("b", 0.09), ("c", 0.01)]


def test_weights_are_relative_to_their_sum():
    choice = WeightedChoice((Destination("a", 1), Destination("b", 3)))
    assert [choice.pick(i / 8).cluster for i in range(8)] == ["a"] * 2 + ["b"] * 6
    with pytest.raises(MatchError):
        WeightedChoice((Destination("a", 0),))


@pytest.mark.parametrize(
    ("match", "rewrite", "path", "query", "forward"),
    [
        (Prefix("/v1"), Rewrite(uri="/v2"), "/v1/x", "", b"/v2/x"),
        (Prefix("/v1"), Rewrite(uri="/"), "/v1/x", "a=1", b"/x?a=1"),
        (Prefix("/v1/"), Rewrite(uri="/"), "/v1/x", "", b"/x"),
        (Prefix("/v1"), Rewrite(uri="/v2"), "/v10", "", b"/v20"),
        (Exact("/old"), Rewrite(uri="/new"), "/old", "q", b"/new?q"),
        (Regex("/o.*"), Rewrite(uri="/new"), "/old/er", "", b"/new"),
        (SegmentPrefix("/v1"), Rewrite(uri="/"), "/v1", "", b"/"),
        (None, Rewrite(uri="/base/"), "/x", "", b"/base/x"),
        (Prefix("/v1"), Rewrite(uri="/a?b=c"), "/v1", "d=e", b"/a?b=c&d=e"),
        (
            None,
            Rewrite(regex_match="^/user/([^/]+)/(.*)$", regex_rewrite=r"/\2/of/\1"),
            "/user/ann/x",
            "",
            b"/x/of/ann",
        ),
        (None, Rewrite(regex_match="a", regex_rewrite="b"), "/aca", "", b"/bcb"),
        (Prefix("/v1"), Rewrite(uri="/../etc"), "/v1/passwd", "", b"/etc/passwd"),
        (SegmentPrefix("/v1"), Rewrite(full_path="/all"), "/v1/x", "a=1", b"/all?a=1"),
        *(
            (SegmentPrefix(prefix), Rewrite(uri=text), path, "", result)
            # the table of Gateway API's ReplacePrefixMatch
            for path, prefix, text, result in (
                ("/foo/bar", "/foo", "/xyz", b"/xyz/bar"),
                ("/foo/bar", "/foo", "/xyz/", b"/xyz/bar"),
                ("/foo/bar", "/foo/", "/xyz", b"/xyz/bar"),
                ("/foo/bar", "/foo/", "/xyz/", b"/xyz/bar"),
                ("/foo", "/foo", "/xyz", b"/xyz"),
                ("/foo/", "/foo", "/xyz", b"/xyz/"),
                ("/foo/bar", "/foo", "", b"/bar"),
                ("/foo/", "/foo", "", b"/"),
                ("/foo", "/foo", "", b"/"),
                ("/foo/", "/foo", "/", b"/"),
                ("/foo", "/foo", "/", b"/"),
                ("/foo/bar", "/", "/xyz", b"/xyz/foo/bar"),
            )
        ),
    ],
)
def test_rewrites(match, rewrite, path, query, forward):
    matches = (RequestMatch(path=match),) if match else ()
    router = Router([host(to("c", *matches, rewrite=rewrite))])
    routed = router.route(request(path, query=query), 0)
    assert routed.target.forward == forward
    assert routed.target.path == forward.decode().partition("?")[0]


def test_an_unchanged_path_and_a_rewritten_authority():
    routed = Router([host(to("c", rewrite=Rewrite(authority="other")))]).route(request("/x"), 0)
    assert routed.target is None
    assert routed.authority == "other"


def test_a_substitution_without_its_group_is_refused_when_built():
    with pytest.raises(MatchError, match="group 2"):
        Router([host(to("c", rewrite=Rewrite(regex_match="(a)", regex_rewrite=r"\2")))])


@pytest.mark.parametrize(
    ("redirect", "asked", "location"),
    [
        (Redirect(uri="/new"), request("/old", query="a=1"), "http://api:8080/new?a=1"),
        (Redirect(uri="/new?b=2"), request("/old", query="a=1"), "http://api:8080/new?b=2"),
        (Redirect(authority="www.example.com"), request("/old"), "http://www.example.com/old"),
        (Redirect(scheme="https"), request("/x", authority="api:80"), "https://api/x"),
        (Redirect(scheme="https"), request("/x", authority="api:8080"), "https://api:8080/x"),
        (Redirect(scheme="https", port=443), request("/x"), "https://api/x"),
        (Redirect(port=9443, scheme="https"), request("/x"), "https://api:9443/x"),
        (Redirect(scheme="https", derive_port=DERIVED), request("/x"), "https://api/x"),
        (Redirect(uri="/y", derive_port=DERIVED), request("/x"), "http://api/y"),
        (Redirect(authority="b:1", derive_port=REQUESTED), request("/x"), "http://b:8443/x"),
        (Redirect(uri="/y", derive_port=REQUESTED), request("/x", authority="api"), "http://api:8443/y"),
        (Redirect(prefix_rewrite="/b"), request("/a/x"), "http://api:8080/b/x"),
        (Redirect(uri="//evil.example"), request("/x"), "http://api:8080/evil.example"),
        (Redirect(authority="[::1]", port=8443), request("/x"), "http://[::1]:8443/x"),
    ],
)
def test_redirects(redirect, asked, location):
    rule = RouteRule(redirect, matches=(RequestMatch(path=Prefix("/a")), RequestMatch()))
    routing = Router([host(rule)], port=8443).route(asked, 0)
    assert isinstance(routing, Redirected)
    assert (routing.status, routing.location) == (301, location)


def test_direct_responses():
    routing = Router([host(RouteRule(DirectResponse(503, "closed")))]).route(request(), 0)
    assert isinstance(routing, Direct)
    assert (routing.status, routing.body) == (503, b"closed")


def test_only_a_match_that_names_connect_takes_one():
    asked = request("", "db.example:5432", "CONNECT")
    plain = Router([host(to("rest"), to("some", RequestMatch(headers=())))], "api.shop")
    assert not plain.allows_connect
    named = Router([host(to("rest"), to("tunnel", RequestMatch(method=Exact("CONNECT"))))], "api.shop")
    assert named.allows_connect
    assert cluster_of(named, asked) == "tunnel"
    assert cluster_of(named, request("/")) == "rest"
