"""Who may do what on the operator API: bearer tokens with roles, and the checks that keep browsers out."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web
from yarl import URL

from control_plane.errors import Forbidden, MisdirectedRequest, StartRefused, Unauthenticated
from control_plane.operator_tokens import OperatorTokens, digest_of
from control_plane.roles import Role

__all__ = ["Operators", "Role", "load_operators", "require"]

MIN_TOKEN_CHARS = 16
_SHA256 = re.compile(r"[0-9a-f]{64}")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


AUTHOR: web.RequestKey[str] = web.RequestKey("author", str)
ROLE: web.RequestKey[Role] = web.RequestKey("role", Role)


@dataclass(frozen=True, slots=True)
class Operators:
    """Args:
    roles: by the SHA-256 of the token, hex.
    hosts: names under which this server is known, besides addresses and localhost.
    issued: tokens that were made since, each with an end.
    """

    roles: Mapping[str, Role]
    hosts: frozenset[str] = frozenset()
    issued: OperatorTokens | None = None

    def identify(self, authorization: str) -> tuple[str, Role]:
        """Who sent this header: a short name for logs, and the role.

        Raises:
            Unauthenticated: no bearer token, or one that is not known.
        """
        scheme, _, token = authorization.partition(" ")
        digest = digest_of(token.strip())
        found = None
        for known, role in self.roles.items():  # no early exit: the time must not tell which one is close
            if hmac.compare_digest(known, digest):
                found = role
        issued = self.issued.find(digest, datetime.now(UTC)) if self.issued is not None else None
        if scheme.lower() == "bearer" and issued is not None:
            return f"{issued.name} (token {issued.id})", issued.role
        if scheme.lower() != "bearer" or found is None:
            raise Unauthenticated("a bearer token of this control plane is needed")
        return f"token-{digest[:8]}", found

    def check_browser(self, request: web.Request) -> None:
        """Refuse what only a browser that was led here sends: a foreign Host or Origin.

        Raises:
            MisdirectedRequest: the Host is no name of ours.
            Forbidden: the Origin is another than the Host.
        """
        host = request.headers.get("Host", "")
        try:
            name = URL(f"//{host}").host or ""
        except ValueError:
            name = ""
        if not self._is_ours(name):
            raise MisdirectedRequest(f"{host[:100]!r} is no name of this control plane; see --operator-host")
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Forbidden("requests from other origins are not taken")

    def _is_ours(self, name: str) -> bool:
        if name in self.hosts or name == "localhost":
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # rebinding needs a name; an address is what the browser really dialled

    def middleware(
        self, open_paths: frozenset[str], open_prefix: str
    ) -> Callable[..., Awaitable[web.StreamResponse]]:
        """Applied to every request, whether a route takes it or not.

        Args:
            open_paths, open_prefix: what strangers may ask for.
        """

        @web.middleware
        async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.check_browser(request)
            if request.path not in open_paths and not request.path.startswith(open_prefix):
                request[AUTHOR], request[ROLE] = self.identify(request.headers.get("Authorization", ""))
            return await handler(request)

        return authorize


def require(request: web.Request, needs: Role) -> str:
    """The author of a request whose token has this role or a higher one.

    Raises:
        Forbidden: it has a lower one.
        Unauthenticated: nobody was identified.
    """
    role = request.get(ROLE)
    if role is None:
        raise Unauthenticated("a bearer token of this control plane is needed")
    if role < needs:
        raise Forbidden(f"this needs the role {needs.name.lower()}, the token has {role.name.lower()}")
    return request[AUTHOR]


def load_operators(path: Path, hosts: frozenset[str]) -> Operators:
    """Read the token file: one token (its holder is admin), or a JSON object of SHA-256 → role.

    Raises:
        StartRefused: it is missing, unreadable, or holds no usable token.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartRefused(f"the operator token {path} cannot be read: {error}") from error
    if not text.startswith("{"):
        if len(text) < MIN_TOKEN_CHARS or not text.isprintable() or " " in text:
            raise StartRefused(f"{path}: a token is one line of at least {MIN_TOKEN_CHARS} characters")
        return Operators({hashlib.sha256(text.encode()).hexdigest(): Role.ADMIN}, hosts)
    try:
        roles = {key.lower(): Role[str(value).upper()] for key, value in json.loads(text).items()}
    except (ValueError, KeyError, RecursionError) as error:
        raise StartRefused(f"{path}: is not a JSON object of SHA-256 to viewer, editor or admin") from error
    if not roles or not all(_SHA256.fullmatch(key) for key in roles):
        raise StartRefused(f"{path}: keys are SHA-256 of tokens, 64 hexadecimal digits")
    return Operators(roles, hosts)
