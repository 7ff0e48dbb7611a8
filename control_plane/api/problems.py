"""One table from error to answer (problem+json, RFC 9457), and the guard that applies it to every request."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from certs.errors import CertError, CsrRefused
from control_plane.errors import (
    AttestationRefused,
    BadRequest,
    Conflict,
    ControlPlaneError,
    DiscoveryError,
    Forbidden,
    Lagging,
    MisdirectedRequest,
    NotFound,
    PreconditionFailed,
    RateLimited,
    ReadOnly,
    SignerError,
    StartRefused,
    StorageFull,
    StoreError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from meshpy.errors import DocumentError, MeshpyError

__all__ = ["STATUS", "guard", "problem", "status_of"]

log = logging.getLogger(__name__)

STATUS: Mapping[type[Exception], int] = {
    AttestationRefused: 403,
    BadRequest: 400,
    CertError: 503,
    Conflict: 409,
    ControlPlaneError: 500,
    CsrRefused: 400,
    DiscoveryError: 503,
    DocumentError: 422,
    Forbidden: 403,
    Lagging: 409,
    MeshpyError: 500,
    MisdirectedRequest: 421,
    NotFound: 404,
    PreconditionFailed: 412,
    RateLimited: 429,
    ReadOnly: 409,
    SignerError: 503,
    StartRefused: 503,
    StorageFull: 507,
    StoreError: 503,
    TooLarge: 413,
    Unauthenticated: 401,
    Unavailable: 503,
}
"""The nearest class of an error's ancestry decides."""

TITLES = {403: "refused", 409: "conflict", 422: "the documents are wrong", 507: "no space is left"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status_of(error: Exception) -> int | None:
    """The status that this error is answered with; None when nobody foresaw it."""
    return next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), None)


def problem(status: int, detail: str, **members: Any) -> web.Response:
    """A problem+json answer."""
    title = TITLES.get(status) or HTTPStatus(status).phrase.lower()
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}
    return web.json_response(body, status=status, content_type="application/problem+json")


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The per-request guard: whatever goes wrong becomes an answer, never a traceback on the wire."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _of_http(error)
    except (MeshpyError, CertError) as error:
        return _answer(error)
    except TimeoutError:
        return problem(408, "the request did not come in time")
    except Exception:
        log.exception("%s %s failed", request.method, request.rel_url.raw_path[:200])
        return problem(500, "an error of the control plane; its log says more")


def _answer(error: Exception) -> web.Response:
    status = status_of(error) or 500
    if status >= 500:
        log.warning("%s: %s", type(error).__name__, error)
    if isinstance(error, DocumentError):
        errors = [each.to_json() for each in error.problems]
        return problem(status, f"{len(errors)} problem(s); nothing was changed", errors=errors)
    members: dict[str, Any] = {}
    if isinstance(error, Conflict):
        members["newest"] = error.newest
    if isinstance(error, Lagging):
        members["lagging"] = list(error.names)
    if isinstance(error, AttestationRefused):
        members["evidence"] = error.evidence
    answer = problem(status, str(error), **members)
    if isinstance(error, RateLimited):
        answer.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="meshpy"'
    return answer


def _of_http(error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals (404, 405, 413) in our form."""
    answer = problem(error.status, error.reason)
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer
