"""External authorization over HTTP: the question as Envoy asks it, and what an answer means.

The question is the request's own method, host and path (behind `pathPrefix`), its Authorization, and the
fields that the provider's document names. 200 allows; 5xx, silence and what is no answer are failures,
everything else denies with that status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meshpy.engine.match import StringTest, compile_any
from meshpy.model.ext_authz import ExtAuthz
from meshpy.model.match import StringMatch
from proxy.decide.headers import FoldedOps
from proxy.denial import DENIED_BY
from proxy.http.events import Header, Headers, Refused
from proxy.http.h1 import RequestParser
from proxy.http.head import RequestHead
from proxy.http.hygiene import is_spoofable, twins
from proxy.net.pool import Upstream
from proxy.subrequest import Answer

__all__ = [
    "MAX_ANSWER_BYTES",
    "NEVER_PASSED",
    "Allowed",
    "Denied",
    "Failed",
    "Provider",
    "judge_http",
    "question",
    "with_answers",
    "with_twins",
]

MAX_ANSWER_BYTES = 64 * 1024

NEVER_PASSED = frozenset(
    (
        b"connection", b"content-length", b"expect", b"host", b"http2-settings", b"keep-alive",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip
"""Fields that frame a message and never pass from one to another."""

_ALWAYS_ON_DENY = frozenset((b"www-authenticate", b"location", b"content-type"))
_TEXT = b"text/plain; charset=utf-8"
_REMOVE = b"x-envoy-auth-headers-to-remove"
_PARTIAL = b"x-envoy-auth-partial-body"


def _test(matches: Sequence[StringMatch]) -> StringTest:
    return compile_any(matches) if matches else lambda _name: False


class Provider:
    """One provider, ready to be asked.

    Args:
        upstream: where it is.
    """

    __slots__ = ("is_sent", "on_allow", "on_deny", "settings", "to_upstream", "upstream")

    def __init__(self, settings: ExtAuthz, upstream: Upstream) -> None:
        self.settings = settings
        self.upstream = upstream
        self.is_sent = _test(settings.request_headers)
        self.to_upstream = _test(settings.to_upstream)
        self.on_allow = _test(settings.to_client_on_allow)
        self.on_deny = _test(settings.to_client_on_deny)


class Allowed(NamedTuple):
    """Args:
    drop: names of fields that the app must not receive as they came.
    add: fields for the app.
    to_client: fields for the client.
    """

    drop: frozenset[bytes] = frozenset()
    add: tuple[Header, ...] = ()
    to_client: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """What the client is told."""

    status: int
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    content_type: bytes = _TEXT


class Failed(NamedTuple):
    """There is no answer; `reason` says why."""

    reason: str


def question(
    provider: Provider, head: RequestHead, fields: Iterable[Header], body: bytes | None, *, is_partial: bool
) -> RequestHead | Failed:
    """The head of the question.

    Args:
        fields: of the request, as the app would receive them; lower-case names.
        body: that goes along; None when the provider is not told any.
    """
    settings = provider.settings
    target = head.target if head.target.startswith(b"/") else b"/"
    path = settings.path_prefix.encode("ascii") + target
    lines = [
        b"%b %b HTTP/1.1" % (head.method.encode("ascii"), path),
        b"host: " + head.authority.text.encode("latin-1"),
        b"content-length: %d" % len(body or b""),
    ]
    is_sent = provider.is_sent
    for name, value in fields:
        is_known = name == b"authorization" or (body and name == b"content-type")
        if name not in NEVER_PASSED and (is_known or is_sent(name.decode("latin-1"))):
            lines.append(b"%b: %b" % (name, value))
    if body is not None:
        lines.append(_PARTIAL + (b": true" if is_partial else b": false"))
    lines += [f"{name}: {value}".encode("latin-1") for name, value in settings.added_headers]
    events = RequestParser().feed(b"\r\n".join((*lines, b"", b"")))
    first = events[0] if events else None
    if isinstance(first, RequestHead):
        return first
    why = first.detail if isinstance(first, Refused) else "it is not complete"
    return Failed(f"the question cannot be asked: {why}")


def judge_http(provider: Provider, answer: Answer | str) -> Allowed | Denied | Failed:
    """What an answer means."""
    if isinstance(answer, str):
        return Failed(answer)
    if any(name.lower() == DENIED_BY for name, _ in answer.headers):
        return Failed("its sidecar refused the question")
    if answer.status >= 500:
        return Failed(f"it answered {answer.status}")
    headers = [(name.lower(), value) for name, value in answer.headers]
    usable = [pair for pair in headers if pair[0] not in NEVER_PASSED and not is_spoofable(pair[0])]
    if answer.status == 200:
        return _allowed(provider, usable)
    on_deny = provider.on_deny
    kept = tuple(pair for pair in usable if pair[0] in _ALWAYS_ON_DENY or on_deny(pair[0].decode("latin-1")))
    content_type = next(
        (value for name, value in kept if name == b"content-type"), b"text/plain; charset=utf-8"
    )
    return Denied(
        answer.status, tuple(pair for pair in kept if pair[0] != b"content-type"), answer.body, content_type
    )


def _allowed(provider: Provider, headers: Headers) -> Allowed:
    def chosen(test: Callable[[str], bool]) -> tuple[Header, ...]:
        return tuple(pair for pair in headers if pair[0] != _REMOVE and test(pair[0].decode("latin-1")))

    removed = (name.strip().lower() for key, value in headers if key == _REMOVE for name in value.split(b","))
    add = chosen(provider.to_upstream)
    drop = {name for name in removed if name and name not in NEVER_PASSED} | {name for name, _ in add}
    return Allowed(frozenset(drop), add, chosen(provider.on_allow))


def with_twins(allowed: Allowed, names: Iterable[str]) -> Allowed:
    """The same, without twins that a client sent."""
    found = twins((each.encode("latin-1") for each in names), allowed.drop)
    return allowed._replace(drop=allowed.drop | found) if found else allowed


def with_answers(ops: FoldedOps, allowed: Allowed) -> FoldedOps:
    """Operations on a request, and after them what an answer asks for."""
    kept = tuple(pair for pair in ops.extra if pair[0].lower() not in allowed.drop)
    return FoldedOps(ops.drop | allowed.drop, (*kept, *allowed.add), ops.host)
