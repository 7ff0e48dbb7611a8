"""What a route makes of the request's URL: rewrites for the next hop, redirects for the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from meshpy.engine.match import MatchError, compile_regex, spelled_path
from meshpy.engine.normalise import TargetRefusal, normalise_target
from meshpy.engine.request import Request, host_of
from meshpy.model.match import Prefix, RequestMatch, SegmentPrefix
from meshpy.model.route import Redirect, Rewrite

__all__ = ["PathRewrite", "RewrittenTarget", "compile_path_rewrite", "location"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


class RewrittenTarget(NamedTuple):
    """The target that goes upstream in place of the received one."""

    path: str
    query: str
    forward: bytes


PathRewrite: TypeAlias = Callable[[Request], RewrittenTarget | str]
"""The new target, or why there is none."""


def _prefix_length(match: RequestMatch | None) -> int | None:
    """How much of the path a `uri` replaces; None is all of it.

    Envoy: a prefix match gives its prefix, a rule without a path the `/` that every path begins with, an
    exact path, template or expression the whole path.
    """
    path = match.path if match is not None else None
    match path:
        case None:
            return 1
        case Prefix(value=value):
            return len(spelled_path(value))
        case SegmentPrefix(value=value):
            return len(spelled_path(value).rstrip("/"))
        case _:
            return None


def compile_path_rewrite(rewrite: Rewrite, match: RequestMatch | None) -> PathRewrite | None:
    """The rewrite of paths for a rule entered by `match`; None when the path stays.

    Raises:
        MatchError: its expression is no RE2, or its substitution names a group that is not there.
    """
    if rewrite.regex_match is not None:
        return _regex_rewrite(rewrite.regex_match, rewrite.regex_rewrite)
    if rewrite.uri is None:
        return None
    uri, length = rewrite.uri, _prefix_length(match)
    return lambda request: _normalised(replace_prefix(request.path, uri, length), request.query)


def replace_prefix(path: str, text: str, length: int | None) -> str:
    """The path with its first `length` characters replaced; None replaces all of it."""
    return text if length is None else text + path[length:]


def _regex_rewrite(expression: str, substitution: str) -> PathRewrite:
    pattern = compile_regex(expression)
    try:
        pattern.sub(substitution, "/")
        _check_groups(substitution, pattern.groups)
    except (IndexError, ValueError) as error:
        raise MatchError(f"the substitution {substitution!r} does not fit {expression!r}: {error}") from None
    return lambda request: _normalised(pattern.sub(substitution, request.path), request.query)


def _check_groups(substitution: str, groups: int) -> None:
    position = substitution.find("\\")
    while position >= 0:
        digit = substitution[position + 1 : position + 2]
        if digit.isdecimal() and int(digit) > groups:
            raise ValueError(f"there is no group {digit}")
        position = substitution.find("\\", position + 2)


def _normalised(path: str, query: str) -> RewrittenTarget | str:
    """The one spelling of a rewritten path; a query that the rewrite brings comes first."""
    text = path if path.startswith("/") else f"/{path}"
    if query:
        text += ("&" if "?" in text else "?") + query
    result = normalise_target(text.encode("utf-8"))
    if isinstance(result, TargetRefusal):
        return f"the rewritten path {path!r} is refused: {result.detail}"
    return RewrittenTarget(result.path, result.query, result.forward)


def location(redirect: Redirect, match: RequestMatch | None, request: Request) -> str:
    """The URL of a redirect: parts that are not set stay as the request had them (Envoy).

    A `uri` with a query of its own replaces the request's query. A port that is the scheme's default is
    left out; the request's port goes when scheme or host changes.
    """
    scheme = redirect.scheme or request.scheme or "http"
    host = redirect.authority or _host_for(request, scheme, with_port=redirect.port is None)
    if redirect.port is not None and redirect.port != _DEFAULT_PORTS.get(scheme):
        host = f"{host_of(host)}:{redirect.port}"
    path, query = request.path, request.query
    if redirect.uri is not None:
        path, mark, own = redirect.uri.partition("?")
        query = own if mark else query
    elif redirect.prefix_rewrite is not None:
        path = replace_prefix(path, redirect.prefix_rewrite, _prefix_length(match))
    path = "/" + path.lstrip("/")
    return f"{scheme}://{host}{path}{'?' if query else ''}{query}"


def _host_for(request: Request, scheme: str, *, with_port: bool) -> str:
    """The request's authority; without its port when another is set, or when it was the old scheme's."""
    host = host_of(request.authority)
    port = request.authority[len(host) :].lstrip(".").removeprefix(":")
    left = scheme != request.scheme and port == str(_DEFAULT_PORTS.get(request.scheme))
    return f"{host}:{port}" if port and with_port and not left else host
