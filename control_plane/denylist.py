"""The deny-list: services whose identity is revoked. Every sidecar refuses them, and they get no certificate.

It is kept as a sequence of revisions of its own, so it has authors, messages and a history, survives what the
policies' store survives, and is shared by the same replicas; rolling policies back does not restore anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from control_plane.errors import AttestationRefused, NotFound, StoreError
from control_plane.store.revisions import EMPTY, Document, Revision, Store
from control_plane.tokens import checked_service
from meshpy.model.names import ServiceName

__all__ = ["DenyList"]

FOLLOW_S = 1.0


class DenyList:
    """Args:
    store: where it is kept.
    changed: told of the services that are denied from now on.
    """

    def __init__(self, store: Store, changed: Callable[[frozenset[ServiceName]], None]) -> None:
        self._store, self._changed = store, changed
        self._turn = asyncio.Lock()
        self.revision: Revision = EMPTY

    @property
    def services(self) -> frozenset[ServiceName]:
        return frozenset(checked_service(document.name) for document in self.revision.documents)

    async def start(self) -> None:
        """Read it.

        Raises:
            StoreError: the store cannot be read.
        """
        self._take(await self._store.newest())

    async def follow(self) -> None:
        """Take what other replicas stored, until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            with suppress(StoreError):
                self._take(await self._store.newest())

    async def deny(self, service: ServiceName, *, author: str, message: str) -> None:
        """Revoke a service's identity; one that is revoked already stays so.

        Raises:
            StoreError: it could not be stored; nothing changed.
        """
        async with self._turn:
            held = await self._store.newest()
            kept = tuple(each for each in held.documents if each.name != str(service))
            await self._append(held, (*kept, Document(str(service), message)), author, f"revoke {service}")

    async def restore(self, service: ServiceName, *, author: str) -> None:
        """Let a service have certificates again.

        Raises:
            NotFound: it is not revoked.
            StoreError: it could not be stored; nothing changed.
        """
        async with self._turn:
            held = await self._store.newest()
            kept = tuple(each for each in held.documents if each.name != str(service))
            if len(kept) == len(held.documents):
                raise NotFound(f"{service} is not revoked")
            await self._append(held, kept, author, f"restore {service}")

    def check(self, service: ServiceName) -> None:
        """Nothing, unless the service is revoked.

        Raises:
            AttestationRefused: it is.
        """
        if service in self.services:
            raise AttestationRefused("deny-list", f"the identity of {service} is revoked")

    async def _append(
        self, held: Revision, documents: tuple[Document, ...], author: str, message: str
    ) -> None:
        self._take(
            await self._store.append(
                documents, author=author, expected=held.number, now=datetime.now(UTC), message=message
            )
        )

    def _take(self, revision: Revision) -> None:
        if revision.number != self.revision.number:
            self.revision = revision
            self._changed(self.services)
