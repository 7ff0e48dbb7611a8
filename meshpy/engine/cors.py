"""Cross-origin requests: what a route's CORS policy grants a page, and preflights that it answers.

As Envoy's filter does it: a request without an `Origin`, or with one that the policy does not allow, is none
of its business; a preflight (OPTIONS with `Access-Control-Request-Method`) of an allowed origin is answered
here and never reaches the destination. The answer names the one origin that asked, so caches are told.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshpy.engine.match import any_of, compile_string
from meshpy.engine.request import Request
from meshpy.model.route import Cors

__all__ = ["CorsJudge", "Grant", "Preflight"]

_ANY = "*"


@dataclass(frozen=True, slots=True)
class Grant:
    """Fields of the answer, and names that the destination may not say for itself; lower case."""

    headers: tuple[tuple[str, str], ...]
    drop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preflight:
    """A preflight to be answered here; without a grant it is one that the policy does not allow."""

    status: int
    grant: Grant | None


class CorsJudge:
    """One policy, compiled.

    Raises:
        MatchError: an origin's expression that cannot be judged.
    """

    __slots__ = ("_cors", "_drop", "_is_allowed", "_is_any")

    def __init__(self, cors: Cors) -> None:
        self._cors = cors
        self._is_allowed = any_of([compile_string(match) for match in cors.allow_origins])
        # Envoy: a matcher that takes the string `*` takes every origin
        self._is_any = self._is_allowed(_ANY)
        drop = ["access-control-allow-origin", "access-control-allow-credentials"]
        self._drop = (*drop, "access-control-expose-headers") if cors.expose_headers else tuple(drop)

    def judge(self, request: Request) -> Grant | Preflight | None:
        """What the policy says to one request; None: nothing."""
        origins = request.headers.get("origin")
        if origins is None or len(origins) != 1 or not origins[0]:
            return None
        origin = origins[0]
        wanted = request.headers.get("access-control-request-method", ())
        is_preflight = request.method == "OPTIONS" and len(wanted) == 1 and bool(wanted[0])
        if not (self._is_any or self._is_allowed(origin)):
            return Preflight(200, None) if is_preflight and not self._cors.forward_unmatched else None
        if not is_preflight:
            exposed = self._cors.expose_headers
            fields = [("access-control-expose-headers", ",".join(exposed))] if exposed else []
            return Grant((*self._origin_fields(origin), *fields), self._drop)
        return Preflight(200, Grant(self._preflight_fields(request, origin, wanted[0]), self._drop))

    def _origin_fields(self, origin: str) -> list[tuple[str, str]]:
        fields = [("access-control-allow-origin", origin), ("vary", "Origin")]
        if self._cors.allow_credentials:
            fields.append(("access-control-allow-credentials", "true"))
        return fields

    def _preflight_fields(self, request: Request, origin: str, method: str) -> tuple[tuple[str, str], ...]:
        cors = self._cors
        fields = self._origin_fields(origin)
        asked = ",".join(request.headers.get("access-control-request-headers", ()))
        for name, allowed, wanted in (
            ("access-control-allow-methods", cors.allow_methods, method),
            ("access-control-allow-headers", cors.allow_headers, asked),
        ):
            # with credentials a browser reads `*` as a name, so what it asked for is named (Fetch §3.2.5)
            value = wanted if _ANY in allowed and cors.allow_credentials else ",".join(allowed)
            if value:
                fields.append((name, value))
        if cors.max_age_s is not None:
            fields.append(("access-control-max-age", str(cors.max_age_s)))
        return tuple(fields)
