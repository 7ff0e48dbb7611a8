"""External authorization as compiled for one workload: whom to ask about a request, how, and what counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from meshpy.model.match import Present, StringMatch

__all__ = ["BodyCheck", "CheckApi", "ExtAuthz"]


class CheckApi(StrEnum):
    """What a provider speaks: plain HTTP, or `envoy.service.auth.v3.Authorization/Check`."""

    HTTP = "http"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True)
class BodyCheck:
    """Content goes along with the question.

    Args:
        max_bytes: more content is 413, or is cut off when `allow_partial`.
        as_bytes: gRPC: `raw_body` instead of `body`.
    """

    max_bytes: int
    allow_partial: bool = False
    as_bytes: bool = False


@dataclass(frozen=True, slots=True)
class ExtAuthz:
    """One `extensionProviders[].envoyExtAuthzHttp` or `…Grpc`.

    Args:
        cluster: where it is reached.
        authority: the host that questions carry over gRPC; over HTTP they carry the request's own.
        path_prefix: before the request's path in a question over HTTP.
        fail_open: a request passes when no answer comes.
        error_status: of the refusal when no answer comes.
        request_headers: of the request that go along, besides Host, Authorization and what HTTP needs.
        added_headers: that go along as they stand here.
        to_upstream: of an answer that allows, for the app.
        to_client_on_allow: of an answer that allows, for the client.
        to_client_on_deny: of one that denies; all of them unless said otherwise.
    """

    name: str
    cluster: str
    api: CheckApi = CheckApi.HTTP
    authority: str = ""
    path_prefix: str = ""
    timeout_s: float = 1.0
    fail_open: bool = False
    error_status: int = 403
    request_headers: tuple[StringMatch, ...] = ()
    added_headers: tuple[tuple[str, str], ...] = ()
    body: BodyCheck | None = None
    to_upstream: tuple[StringMatch, ...] = ()
    to_client_on_allow: tuple[StringMatch, ...] = ()
    to_client_on_deny: tuple[StringMatch, ...] = (Present(),)
