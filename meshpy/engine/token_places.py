"""Where tokens stand in a request: headers, query parameters, cookies; and the request without them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from meshpy.engine.request import Request
from meshpy.model.authn import JwtRule

__all__ = ["Found", "found_by", "without"]

_COOKIE = "cookie"


class Found(NamedTuple):
    """A text that stands where a rule looks for tokens.

    Args:
        place: `header`, `param` or `cookie`.
        value: of the header or cookie, or the parameter, as received.
        is_alone: a header that was sent once.
    """

    token: str
    place: str
    name: str
    value: str
    is_alone: bool = False


def found_by(rule: JwtRule, request: Request) -> Iterator[Found]:
    """Every token that the rule's places hold, in the order of the rule."""
    for header in rule.from_headers:
        values = request.headers.get(header.name, ())
        for value in values:
            # An authentication scheme has no case (RFC 9110 §11.1); a prefix that is none is taken literally.
            head = value[: len(header.prefix)]
            if head == header.prefix or (header.name == "authorization" and head.lower() == "bearer "):
                token = value[len(header.prefix) :].strip()
                yield Found(token, "header", header.name, value, len(values) == 1)
    if rule.from_params:
        for pair in request.query.split("&"):
            name, equals, value = pair.partition("=")
            if equals and name in rule.from_params:
                yield Found(value, "param", name, pair)
    if rule.from_cookies:
        for pair in _cookies(request):
            name, equals, value = pair.partition("=")
            if equals and name in rule.from_cookies:
                yield Found(value.strip('"'), "cookie", name, pair)


def _cookies(request: Request) -> Iterator[str]:
    for line in request.headers.get(_COOKIE, ()):
        for pair in line.split(";"):
            yield pair.strip()


class Rest(NamedTuple):
    """What is left of a request without its tokens.

    Args:
        drop: header names to leave out, lower case.
        add: header fields to put in their stead.
        query: the query; None when it stays as it is.
    """

    drop: frozenset[str]
    add: tuple[tuple[str, str], ...] = ()
    query: str | None = None


def without(request: Request, taken: Collection[Found]) -> Rest:
    """The request without these tokens; other values of the same headers stay."""
    drop: set[str] = set()
    add: list[tuple[str, str]] = []
    values = {(each.place, each.value) for each in taken}
    for name in {each.name for each in taken if each.place == "header"}:
        drop.add(name)
        kept = (value for value in request.headers.get(name, ()) if ("header", value) not in values)
        add += [(name, value) for value in kept]
    if any(each.place == "cookie" for each in taken):
        drop.add(_COOKIE)
        kept_cookies = [pair for pair in _cookies(request) if pair and ("cookie", pair) not in values]
        add += [(_COOKIE, "; ".join(kept_cookies))] if kept_cookies else []
    query = None
    if any(each.place == "param" for each in taken):
        query = "&".join(pair for pair in request.query.split("&") if ("param", pair) not in values)
    return Rest(frozenset(drop), tuple(add), query)
