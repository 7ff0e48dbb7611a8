"""The deny-list: services whose identity is revoked. Every sidecar refuses them, and they get no certificate.

It is kept as a sequence of revisions of its own, so it has authors, messages and a history, survives what the
policies' store survives, and is shared by the same replicas; rolling policies back does not restore anybody.
"""

from __future__ import annotations

from collections.abc import Callable

from control_plane.errors import AttestationRefused, NotFound
from control_plane.shared_record import SharedRecord
from control_plane.store.revisions import Document, Revision, Store
from control_plane.tokens import checked_service
from meshpy.model.names import ServiceName

__all__ = ["DenyList"]


class DenyList(SharedRecord):
    """Args:
    changed: told of the services that are denied from now on.
    """

    def __init__(self, store: Store, changed: Callable[[frozenset[ServiceName]], None]) -> None:
        super().__init__(store, "the deny-list")
        self._changed = changed

    @property
    def services(self) -> frozenset[ServiceName]:
        return _services(self.revision)

    async def deny(self, service: ServiceName, *, author: str, message: str) -> None:
        """Revoke a service's identity; one that is revoked already stays so.

        Raises:
            StoreError: it could not be stored; nothing changed.
        """
        async with self._turn:
            held = await self._newest()
            kept = tuple(each for each in held.documents if each.name != str(service))
            denied = (*kept, Document(str(service), message))
            await self._append(denied, author=author, message=f"revoke {service}")

    async def restore(self, service: ServiceName, *, author: str) -> None:
        """Let a service have certificates again.

        Raises:
            NotFound: it is not revoked.
            StoreError: it could not be stored; nothing changed.
        """
        async with self._turn:
            held = await self._newest()
            kept = tuple(each for each in held.documents if each.name != str(service))
            if len(kept) == len(held.documents):
                raise NotFound(f"{service} is not revoked")
            await self._append(kept, author=author, message=f"restore {service}")

    def check(self, service: ServiceName) -> None:
        """Nothing, unless the service is revoked.

        Raises:
            AttestationRefused: it is.
        """
        if service in self.services:
            raise AttestationRefused("deny-list", f"the identity of {service} is revoked")

    async def _taken(self, revision: Revision) -> None:
        self._changed(_services(revision))


def _services(revision: Revision) -> frozenset[ServiceName]:
    return frozenset(checked_service(document.name) for document in revision.documents)
