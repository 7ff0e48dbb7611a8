"""`/v1/join-tokens`: made, listed, revoked."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

from aiohttp import web

from control_plane.api.body import check_members, json_body, member
from control_plane.api.operators import Role, require
from control_plane.api.routes import Route, flag
from control_plane.api.trust_schemas import REVOKED, TOKEN, TOKEN_LIST, TOKEN_WANTED
from control_plane.errors import BadRequest
from control_plane.parts import Parts
from control_plane.tokens import checked_service

__all__ = ["TokenRoutes"]

MAX_BODY = 64 * 1024
MAX_ID = 64
MAX_TTL_S = 30 * 86_400
FORCE = {"force": ({"type": "boolean", "default": False}, "also an id that is not on record here")}


class TokenRoutes:
    """Handlers. A token is shown once, to who made it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        made = (201, "a token", TOKEN)
        revoked = (200, "it is refused from now on", REVOKED)
        listed = (200, "tokens without their secret", TOKEN_LIST)
        tokens = "/v1/join-tokens"
        return [
            Route("GET", tokens, self.list, Role.VIEWER, "Join tokens", listed),
            Route("POST", tokens, self.issue, Role.EDITOR, "Make a join token", made, body=TOKEN_WANTED),
            Route(
                "DELETE",
                tokens + "/{id}",
                self.revoke,
                Role.ADMIN,
                "Revoke a join token",
                revoked,
                query=FORCE,
            ),
        ]

    async def list(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        now = datetime.now(UTC)
        found = [
            {
                "id": each.id,
                "service": each.service,
                "state": each.state(now),
                "once": each.is_once,
                "created": each.created,
                "author": each.author,
                "expires": each.expires or None,
                "used_at": each.used_at or None,
                "used_by": each.used_by or None,
            }
            for each in self._parts.ledger.entries()
        ]
        return web.json_response({"tokens": found})

    async def issue(self, request: web.Request) -> web.Response:
        author = require(request, Role.EDITOR)
        body = await json_body(request, MAX_BODY)
        check_members(body, "service", "once", "ttl_s", "address")
        service, now = checked_service(member(body, "service", str)), datetime.now(UTC)
        is_once, address = member(body, "once", bool, False), _address(member(body, "address", str, ""))
        ttl_s = _ttl(member(body, "ttl_s", int, None))
        tokens = self._parts.tokens
        token = tokens.issue(service, now, ttl_s=ttl_s, is_once=is_once, address=address)
        made = tokens.read(token, now)
        await self._parts.audit.write("join-token", author=author, service=str(service), id=made.id)
        await self._parts.ledger.add(made, author)
        expires = made.expires.isoformat() if made.expires is not None else None
        answer = {"token": token, "service": str(service), "id": made.id, "once": is_once, "expires": expires}
        return web.json_response(answer, status=201)

    async def revoke(self, request: web.Request) -> web.Response:
        author = require(request, Role.ADMIN)
        ident = request.match_info["id"]
        if len(ident) > MAX_ID or not ident.isalnum():
            raise BadRequest("a token's id is what POST /v1/join-tokens answered")
        force = flag(request, "force")
        await self._parts.ledger.revoke(ident, author=author, now=datetime.now(UTC), force=force)
        await self._parts.audit.write("join-token-revoked", author=author, id=ident)
        return web.json_response({"revoked": ident})


def _ttl(value: int | None) -> int | None:
    if value is not None and not 1 <= value <= MAX_TTL_S:
        raise BadRequest(f"`ttl_s` is a whole number of seconds, 1 to {MAX_TTL_S}")
    return value


def _address(text: str) -> str:
    if not text:
        return ""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise BadRequest(f"`address` is one IP address, not {text[:60]!r}") from error
