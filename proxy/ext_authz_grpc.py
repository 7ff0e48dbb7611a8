"""External authorization over gRPC: the question and what an answer means; see `ext_authz` for HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from proxy.check_api import (
    BadMessage,
    CheckResponse,
    HeaderChange,
    HttpCheck,
    encode_check,
    frame,
    read_check,
    unframe,
)
from proxy.denial import DENIED_BY
from proxy.ext_authz import NEVER_PASSED, Allowed, Denied, Failed, Provider
from proxy.http.events import Header
from proxy.http.h1 import RequestParser
from proxy.http.head import RequestHead
from proxy.http.hygiene import is_spoofable
from proxy.subrequest import Answer

__all__ = ["Parties", "grpc_question", "judge_grpc"]

_PATH = b"/envoy.service.auth.v3.Authorization/Check"
_FORBIDDEN = 403


class Parties(NamedTuple):
    """Who calls and who is called: (address, port, SPIFFE id); what is not known is empty."""

    source: tuple[str, int, str]
    destination: tuple[str, int, str]


def grpc_question(
    provider: Provider,
    head: RequestHead,
    fields: Iterable[Header],
    body: bytes | None,
    parties: Parties,
    *,
    is_partial: bool,
) -> tuple[RequestHead, bytes] | Failed:
    """The head of the call, and its one message."""
    settings = provider.settings
    values: dict[str, list[str]] = {
        ":method": [head.method],
        ":path": [head.target.decode("latin-1")],
        ":authority": [head.authority.text],
        ":scheme": ["http"],
    }
    for name, value in fields:
        values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    check = settings.body
    if check is not None:
        values["x-envoy-auth-partial-body"] = ["true" if is_partial else "false"]
    message = frame(
        encode_check(
            HttpCheck(
                (head.get(b"x-request-id") or b"").decode("latin-1"),
                head.method,
                head.target.decode("latin-1"),
                head.authority.text,
                "http",
                f"HTTP/1.{head.minor}",
                tuple((name, ",".join(each)) for name, each in values.items()),
                head.content_length if head.content_length or not body else -1,
                body or b"",
                check is not None and check.as_bytes,
                parties.source,
                parties.destination,
            )
        )
    )
    lines = (
        b"POST %b HTTP/1.1" % _PATH,
        b"host: " + settings.authority.encode("ascii"),
        b"content-type: application/grpc",
        b"te: trailers",
        b"grpc-timeout: %dm" % max(1, int(settings.timeout_s * 1000)),
        b"content-length: %d" % len(message),
        b"\r\n",
    )
    events = RequestParser().feed(b"\r\n".join(lines))
    first = events[0] if events else None
    if not isinstance(first, RequestHead):
        return Failed("the question cannot be asked")
    return first, message


def judge_grpc(answer: Answer | str) -> Allowed | Denied | Failed:
    """What an answer means: the check's status allows or denies; a call that did not end well fails."""
    if isinstance(answer, str):
        return Failed(answer)
    if any(name.lower() == DENIED_BY for name, _ in answer.headers):
        return Failed("its sidecar refused the question")
    if answer.status != 200:
        return Failed(f"it answered {answer.status}")
    status = next((value for name, value in reversed(answer.headers) if name.lower() == b"grpc-status"), b"")
    if status != b"0":
        return Failed(f"the call ended with status {status.decode('latin-1') or 'none'}")
    try:
        found = read_check(unframe(answer.body))
    except BadMessage as error:
        return Failed(f"its answer cannot be read: {error}")
    return _allowed(found) if found.code == 0 else _denied(found)


def _usable(changes: Sequence[HeaderChange]) -> list[HeaderChange]:
    return [each for each in changes if each.name not in NEVER_PASSED and not is_spoofable(each.name)]


def _allowed(found: CheckResponse) -> Allowed:
    changes = _usable(found.headers)
    drop = {each.name for each in changes if not each.appends}
    drop |= {name for name in found.removed if name not in NEVER_PASSED}
    return Allowed(
        frozenset(drop),
        tuple((each.name, each.value) for each in changes),
        tuple((each.name, each.value) for each in _usable(found.response_headers)),
    )


def _denied(found: CheckResponse) -> Denied:
    headers = [(each.name, each.value) for each in _usable(found.denied_headers)]
    content_type = next((value for name, value in headers if name == b"content-type"), b"")
    rest = tuple(pair for pair in headers if pair[0] != b"content-type")
    status = found.status if 200 <= found.status <= 599 else _FORBIDDEN
    denied = Denied(status, rest, found.body)
    return Denied(status, rest, found.body, content_type) if content_type else denied
