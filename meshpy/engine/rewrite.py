"""What a route makes of the request's URL: rewrites for the next hop, redirects for the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from meshpy.engine.match import MatchError, compile_regex, spelled_path
from meshpy.engine.normalise import TargetRefusal, normalise_target
from meshpy.engine.request import Request, host_of
from meshpy.model.match import Prefix, RequestMatch, SegmentPrefix
from meshpy.model.route import DerivePort, Redirect, Rewrite

__all__ = ["PathRewrite", "RewrittenTarget", "compile_path_rewrite", "location", "prefix_length"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


class RewrittenTarget(NamedTuple):
    """The target that goes upstream in place of the received one."""

    path: str
    query: str
    forward: bytes


PathRewrite: TypeAlias = Callable[[Request], RewrittenTarget | str]
"""The new target, or why there is none."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """How much of the path is replaced.

    Args:
        length: in characters; None is all of it.
        by_segment: what follows stays a segment of its own (Gateway API ReplacePrefixMatch).
    """

    length: int | None
    by_segment: bool = False

    def replace(self, path: str, text: str) -> str:
        if self.length is None:
            return text
        rest = path[self.length :]
        if self.by_segment and rest:
            return text.rstrip("/") + rest
        return text + rest


def _cut(match: RequestMatch | None) -> _Cut:
    """What a `uri` replaces.

    Envoy: a prefix match gives its prefix, a rule without a path the `/` that every path begins with, an
    exact path, template or expression the whole path.
    """
    path = match.path if match is not None else None
    match path:
        case None:
            return _Cut(1)
        case Prefix(value=value):
            return _Cut(len(spelled_path(value)))
        case SegmentPrefix(value=value):
            return _Cut(len(spelled_path(value).rstrip("/")), by_segment=True)
        case _:
            return _Cut(None)


def prefix_length(match: RequestMatch | None) -> int | None:
    """How many characters of the path a `uri` replaces; None is all of it."""
    return _cut(match).length


def compile_path_rewrite(rewrite: Rewrite, match: RequestMatch | None) -> PathRewrite | None:
    """The rewrite of paths for a rule entered by `match`; None when the path stays.

    Raises:
        MatchError: its expression is no RE2, or its substitution names a group that is not there.
    """
    if rewrite.regex_match is not None:
        return _regex_rewrite(rewrite.regex_match, rewrite.regex_rewrite)
    if rewrite.full_path is not None:
        whole = rewrite.full_path
        return lambda request: _normalised(whole, request.query)
    if rewrite.uri is None:
        return None
    uri, cut = rewrite.uri, _cut(match)
    return lambda request: _normalised(cut.replace(request.path, uri), request.query)


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


def location(
    redirect: Redirect, match: RequestMatch | None, request: Request, listener_port: int | None = None
) -> str:
    """The URL of a redirect: parts that are not set stay as the request had them (Envoy).

    A `uri` with a query of its own replaces the request's query. A port that is the scheme's default is
    left out; the request's port goes when scheme or host changes.

    Args:
        listener_port: what FROM_REQUEST_PORT means.
    """
    scheme = redirect.scheme or request.scheme or "http"
    port = redirect.port
    if redirect.derive_port is DerivePort.FROM_PROTOCOL_DEFAULT:
        port = _DEFAULT_PORTS.get(scheme)
    elif redirect.derive_port is DerivePort.FROM_REQUEST_PORT:
        port = listener_port
    host = redirect.authority or _host_for(request, scheme, with_port=port is None)
    if port is not None:
        host = host_of(host) if port == _DEFAULT_PORTS.get(scheme) else f"{host_of(host)}:{port}"
    path, query = request.path, request.query
    if redirect.uri is not None:
        path, mark, own = redirect.uri.partition("?")
        query = own if mark else query
    elif redirect.prefix_rewrite is not None:
        path = _cut(match).replace(path, redirect.prefix_rewrite)
    path = "/" + path.lstrip("/")
    return f"{scheme}://{host}{path}{'?' if query else ''}{query}"


def _host_for(request: Request, scheme: str, *, with_port: bool) -> str:
    """The request's authority; without its port when another is set, or when it was the old scheme's."""
    host = host_of(request.authority)
    port = request.authority[len(host) :].lstrip(".").removeprefix(":")
    left = scheme != request.scheme and port == str(_DEFAULT_PORTS.get(request.scheme))
    return f"{host}:{port}" if port and with_port and not left else host
