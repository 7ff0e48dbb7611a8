"""`/v1/operator-tokens`: tokens with a role and an end: made, listed without their secret, revoked."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from control_plane.api.body import check_members, json_body, member
from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.texts import is_line
from control_plane.api.trust_schemas import NEW_TOKEN, OPERATOR_TOKEN, OPERATOR_TOKENS, REVOKED
from control_plane.errors import BadRequest
from control_plane.operator_tokens import MAX_TTL_S, MIN_TTL_S
from control_plane.parts import Parts

__all__ = ["OperatorTokenRoutes"]

MAX_BODY = 64 * 1024
MAX_NAME = 100
DEFAULT_TTL_S = 90 * 24 * 3600


class OperatorTokenRoutes:
    """Handlers of operators' tokens."""

    def __init__(self, parts: Parts) -> None:
        self._tokens, self._audit = parts.operator_tokens, parts.audit

    def routes(self) -> list[Route]:
        path = "/v1/operator-tokens"
        listed = (200, "those that are good, newest first", OPERATOR_TOKENS)
        made = (201, "the token, told this once", OPERATOR_TOKEN)
        revoked = (200, "it is refused from now on", REVOKED)
        admin = Role.ADMIN
        return [
            Route("GET", path, self.list, admin, "Tokens of operators", listed),
            Route("POST", path, self.create, admin, "Make a token", made, body=NEW_TOKEN),
            Route("DELETE", f"{path}/{{id}}", self.revoke_token, admin, "Revoke a token", revoked),
        ]

    async def list(self, request: web.Request) -> web.Response:
        require(request, Role.ADMIN)
        tokens = [each.to_json() for each in self._tokens.listed(datetime.now(UTC))]
        return web.json_response({"tokens": tokens})

    async def create(self, request: web.Request) -> web.Response:
        author = require(request, Role.ADMIN)
        body = await json_body(request, MAX_BODY)
        check_members(body, *NEW_TOKEN["properties"])
        name = member(body, "name", str)
        if not is_line(name, 1, MAX_NAME):
            raise BadRequest(f"`name` says what the token is for, in one line of 1 to {MAX_NAME} characters")
        role = member(body, "role", str)
        if role not in {each.name.lower() for each in Role}:
            raise BadRequest("`role` is viewer, editor or admin")
        ttl_s = member(body, "ttl_s", int, DEFAULT_TTL_S)
        if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
            raise BadRequest(f"`ttl_s` is a whole number from {MIN_TTL_S} to {MAX_TTL_S}")
        token, made = await self._tokens.issue(name, Role[role.upper()], ttl_s, by=author)
        await self._audit.write("operator-token", author=author, id=made.id, role=role, name=name)
        return web.json_response({**made.to_json(), "token": token}, status=201)

    async def revoke_token(self, request: web.Request) -> web.Response:
        author, ident = require(request, Role.ADMIN), request.match_info["id"]
        await self._tokens.revoke(ident, by=author)
        await self._audit.write("operator-token-revoked", author=author, id=ident)
        return web.json_response({"revoked": ident})
