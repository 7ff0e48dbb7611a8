"""Which join tokens were made, used and revoked: a sequence of revisions of its own, shared by the replicas.

A token for one certificate is spent by compare-and-swap before anything is signed: of any number of requests
with it, at whichever replica, exactly one goes on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from control_plane.errors import Conflict, NotFound, Unauthenticated, Unavailable
from control_plane.shared_record import SharedRecord
from control_plane.store.revisions import Document, Revision, Store
from control_plane.tokens import JoinToken
from meshpy.model.names import ServiceName

__all__ = ["Entry", "TokenLedger"]

log = logging.getLogger(__name__)

TRIES = 64
KEPT = timedelta(days=7)
"""How long an entry is shown after its token can join nobody any more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One token, without what makes it valid.

    Args:
        is_once: for one certificate, outside the Swarm.
        used_by: the address of who spent it; it may renew from there until the token is revoked.
    """

    id: str
    service: str
    created: str
    author: str = ""
    expires: str = ""
    is_once: bool = False
    used_at: str = ""
    used_by: str = ""
    revoked: str = ""

    def is_over(self, now: datetime) -> bool:
        """Whether it is neither needed nor worth showing any more."""
        ends = self.revoked or (self.expires if not self.used_at else "")
        return bool(ends) and datetime.fromisoformat(ends) + KEPT < now

    def state(self, now: datetime) -> str:
        """One word for people."""
        if self.revoked:
            return "revoked"
        if self.used_at:
            return "used"
        return "expired" if self.expires and datetime.fromisoformat(self.expires) <= now else "valid"


class TokenLedger(SharedRecord):
    """Args:
    revoked: ids that an earlier release kept in a file of this replica.
    """

    def __init__(self, store: Store, revoked: Collection[str] = ()) -> None:
        super().__init__(store, "join tokens")
        self._old = frozenset(revoked)
        self._entries: dict[str, Entry] = {}

    def entries(self) -> list[Entry]:
        """Every token that is known, the newest first."""
        return sorted(self._entries.values(), key=lambda each: each.created, reverse=True)

    async def add(self, token: JoinToken, author: str) -> None:
        """Write down that a token was made.

        Raises:
            StoreError: it could not be stored; the token must not be given away.
        """
        expires = token.expires.isoformat() if token.expires is not None else ""
        issued = token.issued.isoformat()
        entry = Entry(token.id, str(token.service), issued, author, expires, token.is_once)
        await self._change(lambda _: entry, token.id, author)

    async def revoke(self, ident: str, *, author: str, now: datetime, force: bool = False) -> None:
        """Refuse a token from now on, and the renewals of who came in by it.

        Args:
            force: also one that is not on record, as after the record was lost.

        Raises:
            NotFound: no such token is on record.
            StoreError: it could not be stored; nothing was revoked.
        """

        def step(held: Entry | None) -> Entry:
            if held is None and not force:
                listed = "`meshpy join-token list` shows those on record"
                lost = "`--force` (?force=true) refuses it all the same, should the record have been lost"
                raise NotFound(f"no join token has the id {ident}: {listed}, {lost}")
            return replace(held or Entry(ident, "", now.isoformat()), revoked=now.isoformat())

        await self._change(step, ident, author)

    def check(self, token: JoinToken) -> None:
        """Nothing, unless the token was revoked.

        Raises:
            Unauthenticated: it was.
        """
        entry = self._entries.get(token.id)
        if token.id in self._old or (entry is not None and entry.revoked):
            raise Unauthenticated("the join token was revoked")

    async def spend(self, token: JoinToken, address: str, now: datetime) -> None:
        """Use up a token for one certificate.

        Raises:
            Unauthenticated: it was used or revoked, or this mesh has no record of it.
            StoreError, Unavailable: it could not be stored; the token is as it was.
        """

        def step(held: Entry | None) -> Entry:
            if held is None:
                raise Unauthenticated("the join token is not on record here; make another")
            if held.revoked:
                raise Unauthenticated("the join token was revoked")
            if held.used_at:
                when = f"at {held.used_at[:19]}Z from {held.used_by}"
                raise Unauthenticated(
                    f"the join token is for one certificate and was used {when}; make another"
                )
            return replace(held, used_at=now.isoformat(), used_by=address)

        await self._change(step, token.id, address)

    async def has_joined(self, service: ServiceName, address: str) -> bool:
        """Whether a workload of this service came in from this address by a token that is still good."""
        if not self._joined(service, address):
            await self.refresh()
        return self._joined(service, address)

    def _joined(self, service: ServiceName, address: str) -> bool:
        return any(
            each.service == str(service) and each.used_by == address and each.used_at and not each.revoked
            for each in self._entries.values()
        )

    async def _change(self, step: Callable[[Entry | None], Entry], ident: str, author: str) -> None:
        async with self._turn:
            for _ in range(TRIES):
                await self._newest()
                changed = {**self._entries, ident: step(self._entries.get(ident))}
                with suppress(Conflict):  # another replica wrote; what it wrote is read first
                    await self._append(_documents(changed), author=author)
                    return
        raise Unavailable("too many replicas write tokens at once; try again")

    async def _taken(self, revision: Revision) -> None:
        self._entries = dict(_read(document) for document in revision.documents)


def _documents(entries: Mapping[str, Entry]) -> tuple[Document, ...]:
    now = datetime.now(UTC)
    kept = sorted((ident, entry) for ident, entry in entries.items() if not entry.is_over(now))
    return tuple(
        Document(ident, json.dumps([getattr(entry, name) for name in Entry.__slots__]))
        for ident, entry in kept
    )


def _read(document: Document) -> tuple[str, Entry]:
    return document.name, Entry(*json.loads(document.text)[: len(Entry.__slots__)])
