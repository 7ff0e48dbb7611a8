"""Compiled matches: Istio's, Calico's and Envoy's words, judged value by value."""

import pytest

from meshpy.engine.match import (
    MAX_REGEX_CHARS,
    MatchError,
    compile_any,
    compile_header_condition,
    compile_hosts,
    compile_path,
    compile_regex,
    compile_request,
    compile_string,
    query_values,
)
from meshpy.engine.request import Request, host_of
from meshpy.model.match import (
    Exact,
    HeaderMatch,
    PathTemplate,
    Prefix,
    Present,
    Regex,
    RequestMatch,
    SegmentPrefix,
    Suffix,
)


def request(method="GET", path="/", query="", authority="api:8080", scheme="http", **headers):
    return Request(method, path, query, authority, scheme, {k: list(v) for k, v in headers.items()})


@pytest.mark.parametrize(
    ("match", "text", "holds"),
    [
        (Exact("/foo"), "/foo", True),
        (Exact("/foo"), "/foo/", False),
        (Exact("/foo"), "/foo\n", False),
        (Prefix("/foo"), "/foobar", True),
        (Prefix("/foo"), "/fo", False),
        (SegmentPrefix("/foo"), "/foo", True),
        (SegmentPrefix("/foo"), "/foo/x", True),
        (SegmentPrefix("/foo"), "/foobar", False),
        (SegmentPrefix("/foo/"), "/foo", True),
        (SegmentPrefix("/"), "/anything", True),
        (Suffix(".png"), "/a.png", True),
        (Suffix(".png"), "/a.png/", False),
        (Present(), "", False),
        (Present(), "x", True),
        (Regex("/v[0-9]+"), "/v12", True),
        (Regex("/v[0-9]+"), "/v12/x", False),
        (Regex("/v[0-9]+"), "/v12\n", False),
        (Exact("a.b"), "axb", False),
        (PathTemplate("/foo/{*}"), "/foo/bar", True),
        (PathTemplate("/foo/{*}"), "/foo/bar/baz", False),
        (PathTemplate("/foo/{*}"), "/foo/", False),
        (PathTemplate("/foo/{**}"), "/foo/", True),
        (PathTemplate("/foo/{**}"), "/foo/a/b", True),
        (PathTemplate("/foo/{**}"), "/foo", False),
        (PathTemplate("/foo/{**}/"), "/foo/a/b/", True),
        (PathTemplate("/foo/{**}/"), "/foo/a", False),
        (PathTemplate("/a.b/{*}/c"), "/aXb/1/c", False),
        (PathTemplate("/{*}/bar/{**}"), "/x/bar/y/z", True),
    ],
)
def test_a_match_holds_for_exactly_its_texts(match, text, holds):
    assert compile_string(match)(text) is holds
    assert compile_any([match])(text) is holds


def test_case_is_ignored_on_both_sides():
    for match in (Exact("/Foo"), Prefix("/Fo"), Suffix("OO"), Regex("/fo+"), PathTemplate("/{*}")):
        assert compile_string(match, ignore_case=True)("/fOO")


def test_a_disjunction_of_many_sorts_holds_when_one_does():
    test = compile_any([Exact("a"), Exact("b"), Prefix("x"), Suffix("z"), Regex("[0-9]+")])
    assert all(test(text) for text in ("a", "b", "xy", "yz", "123"))
    assert not any(test(text) for text in ("ab", "", "1a"))


def test_expressions_are_bounded_and_linear():
    with pytest.raises(MatchError, match="at most 1024"):
        compile_regex("a" * (MAX_REGEX_CHARS + 1))
    with pytest.raises(MatchError, match="no RE2"):
        compile_regex("(?=look)")
    with pytest.raises(MatchError):
        compile_regex("(a{1000}){1000}")
    assert not compile_string(Regex("(a+)+"))("a" * 50_000 + "!")


def test_a_path_of_a_policy_is_spelled_as_normalised_paths_are():
    assert compile_path(Exact("/caf%c3%a9"))("/caf%C3%A9")
    assert compile_path(Exact("/café"))("/caf%C3%A9")
    assert compile_path(Prefix("/%61dmin"))("/admin/x")
    assert compile_path(Exact("/a{b}"))("/a%7Bb%7D")
    assert compile_any([Exact("/café")], path=True)("/caf%C3%A9")


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("SECRET.com", "secret.com"),
        ("secret.com:8080", "secret.com"),
        ("secret.com.", "secret.com"),
        ("secret.com.:80", "secret.com"),
        ("[::1]:8080", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ],
)
def test_a_host_has_one_spelling(authority, host):
    assert host_of(authority) == host


def test_hosts_ignore_case_and_the_port_that_is_not_written():
    test = compile_hosts([Exact("Shop.Example.com"), Suffix(".internal"), Exact("api:8080")])
    assert all(
        test(a) for a in ("shop.example.com", "shop.example.com:9", "shop.example.com.", "x.internal:1")
    )
    assert test("api:8080")
    assert not test("api:9090")
    assert not test("api")


@pytest.mark.parametrize(
    ("values", "not_values", "received", "allow", "deny"),
    [
        (["admin"], [], None, False, False),
        (["admin"], [], ["admin"], True, True),
        (["admin"], [], ["user"], False, False),
        (["admin"], [], ["admin", "user"], False, True),
        (["admin"], [], ["user,admin"], False, False),
        ([], ["admin"], None, True, True),
        ([], ["admin"], ["user"], True, True),
        ([], ["admin"], ["admin"], False, False),
        ([], ["admin"], ["admin", "user"], False, True),
        (["a", "b"], ["b"], ["a"], True, True),
        (["a", "b"], ["b"], ["b"], False, False),
    ],
)
def test_a_header_sent_twice_is_read_the_way_that_grants_less(values, not_values, received, allow, deny):
    sent = request(**({"x": received} if received else {}))
    for denies, expected in ((False, allow), (True, deny)):
        test = compile_header_condition(
            "x", [Exact(v) for v in values], [Exact(v) for v in not_values], denies=denies
        )
        assert test(sent) is expected


def test_route_headers_take_any_value_and_inversion_means_none():
    has = compile_request(RequestMatch(headers=(HeaderMatch("x", Exact("1")),)))
    without = compile_request(RequestMatch(headers=(HeaderMatch("x", Exact("1"), invert=True),)))
    absent = compile_request(RequestMatch(headers=(HeaderMatch("x", None, invert=True),)))
    for sent, held in ((request(x=["0", "1"]), True), (request(x=["0"]), False), (request(), False)):
        assert has(sent) is held
        assert without(sent) is not held
    assert absent(request())
    assert not absent(request(x=[""]))


def test_query_parameters_are_raw_and_the_first_counts():
    assert query_values("a=1&a=2&b&c=%31&=x") == {"a": "1", "b": "", "c": "%31"}
    match = compile_request(RequestMatch(query={"debug": Exact("")}))
    assert match(request(query="debug"))
    assert match(request(query="debug="))
    assert not match(request(query="debug=1"))
    assert not match(request())


def test_everything_that_a_match_sets_must_hold():
    match = RequestMatch(
        path=Prefix("/a"), method=Exact("GET"), scheme=Exact("http"), authority=Exact("api"), port=8080
    )
    test = compile_request(match, port=8080)
    assert test(request(path="/ab"))
    assert not test(request(path="/ab", method="POST"))
    assert not test(request(path="/b"))
    assert not test(request(path="/a", scheme="https"))
    assert not test(request(path="/a", authority="web:8080"))
    assert not compile_request(match, port=9090)(request(path="/ab"))
    assert compile_request(RequestMatch()) is None
