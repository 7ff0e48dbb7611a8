"""Tokens of operators that are made, listed and revoked while the control plane runs; each ends by itself.

Only the SHA-256 of a token is kept, as documents of a sequence of revisions of their own: replicas share it,
and a change is on disk before it counts. The tokens of the token file stand beside these and do not end.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from control_plane.errors import BadRequest, NotFound, StoreError
from control_plane.roles import Role
from control_plane.shared_record import SharedRecord
from control_plane.store.revisions import Document, Revision, Store

__all__ = ["MAX_TTL_S", "MIN_TTL_S", "IssuedToken", "OperatorTokens", "digest_of"]

MIN_TTL_S, MAX_TTL_S = 60, 366 * 24 * 3600
MAX_TOKENS = 1_000


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """What is kept of a token.

    Args:
        name: what it is for, in its maker's words.
    """

    id: str
    name: str
    role: Role
    digest: str
    created: datetime
    ends: datetime
    by: str

    def to_json(self) -> dict[str, str]:
        """As the API shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "role": self.role.name.lower(),
            "created": self.created.isoformat(),
            "expires": self.ends.isoformat(),
            "author": self.by,
        }


def digest_of(token: str) -> str:
    """Under what a token is known here."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class OperatorTokens(SharedRecord):
    """By digest, those that were made and have not ended."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "operators' tokens")
        self._by_digest: Mapping[str, IssuedToken] = {}

    def find(self, digest: str, now: datetime) -> IssuedToken | None:
        """The token of this SHA-256, while it is good."""
        found = self._by_digest.get(digest)
        return found if found is not None and now < found.ends else None

    def listed(self, now: datetime) -> list[IssuedToken]:
        """Those that are good, the newest first."""
        good = (each for each in self._by_digest.values() if now < each.ends)
        return sorted(good, key=lambda each: (each.created, each.id), reverse=True)

    async def issue(self, name: str, role: Role, ttl_s: int, *, by: str) -> tuple[str, IssuedToken]:
        """A new token, told this once, and what is kept of it.

        Raises:
            BadRequest: there are too many.
            StoreError: it could not be stored; there is none.
        """
        token, now = f"mo1.{secrets.token_urlsafe(32)}", datetime.now(UTC)
        made = IssuedToken(
            secrets.token_hex(8), name, role, digest_of(token), now, now + timedelta(seconds=ttl_s), by
        )
        async with self._turn:
            kept = await self._good(now)
            if len(kept) >= MAX_TOKENS:
                raise BadRequest(f"at most {MAX_TOKENS} tokens are kept; revoke some")
            await self._write([*kept, made], by, f"token {made.id} of {role.name.lower()} for {name}")
        return token, made

    async def revoke(self, ident: str, *, by: str) -> None:
        """Refuse a token from now on.

        Raises:
            NotFound: there is none of this id.
            StoreError: it could not be stored; the token stays good.
        """
        async with self._turn:
            held = await self._good(datetime.now(UTC))
            kept = [each for each in held if each.id != ident]
            if len(kept) == len(held):
                raise NotFound(f"there is no token {ident}")
            await self._write(kept, by, f"token {ident} is revoked")

    async def _good(self, now: datetime) -> list[IssuedToken]:
        await self._newest()
        return [each for each in self._by_digest.values() if now < each.ends]

    async def _write(self, tokens: list[IssuedToken], by: str, message: str) -> None:
        documents = tuple(Document(each.id, _printed(each)) for each in tokens)
        await self._append(documents, author=by, message=message)

    async def _taken(self, revision: Revision) -> None:
        self._by_digest = {each.digest: each for each in map(_read, revision.documents)}


def _printed(token: IssuedToken) -> str:
    shown = token.to_json()
    return json.dumps({**shown, "ends": shown["expires"], "by": token.by, "sha256": token.digest})


def _read(document: Document) -> IssuedToken:
    try:
        held: dict[str, Any] = json.loads(document.text)
        return IssuedToken(
            document.name,
            held["name"],
            Role[held["role"].upper()],
            held["sha256"],
            datetime.fromisoformat(held["created"]),
            datetime.fromisoformat(held["ends"]),
            held["by"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"the operator token {document.name} is damaged: {error!r}") from error
