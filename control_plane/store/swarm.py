"""Revisions in the Swarm's own Raft, shared by all replicas of the control plane.

A revision is a Docker config whose name carries its number, so that creating it is the compare-and-swap: the
managers accept one of several creations of a name (seen on engine 20.10: 1 of 8 parallel ones). Configs are
immutable. The content is compressed and carries a hash.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from control_plane.errors import Conflict, DiscoveryError, StorageFull, StoreError
from control_plane.store.revisions import EMPTY, Document, Revision

__all__ = ["Configs", "SwarmStore"]

LABEL = "meshpy.revision"
MAX_BYTES = 1_000_000
"""Below the 1,024,000 bytes that the engine takes (SWARM: configs)."""
KEEP = 50
"""Revisions that are kept; older ones are pruned."""


class Configs(Protocol):
    """Docker configs; `DockerClient` is the real one. All raise DiscoveryError when the engine fails."""

    async def configs(self, label: str) -> Sequence[Mapping[str, Any]]:
        """Those with this label, their data included."""

    async def config(self, name: str) -> Mapping[str, Any] | None:
        """One by name."""

    async def create_config(self, name: str, data: bytes, labels: Mapping[str, str]) -> bool:
        """Create one; False when the name is taken."""

    async def remove_config(self, name: str) -> None:
        """Remove one."""


class SwarmStore:
    """One sequence of revisions.

    Args:
        label: of its configs; their names are `<label>-<number>`, dots as dashes.
    """

    def __init__(self, configs: Configs, label: str = LABEL, *, keep: int = KEEP) -> None:
        self._configs, self._label, self._keep = configs, label, keep
        self._newest: Revision | None = None

    async def newest(self) -> Revision:
        """Ask for the one after the newest known, which costs one small answer while there is none."""
        known = self._newest
        if known is None:
            found = await self._all()
            known = found[-1] if found else EMPTY
        while (following := await self._one(known.number + 1)) is not None:
            known = following
        self._newest = known
        return known

    async def get(self, number: int) -> Revision | None:
        return EMPTY if number == 0 else await self._one(number)

    async def history(self, limit: int) -> Sequence[Revision]:
        return (await self._all())[::-1][:limit]

    async def append(
        self,
        documents: Sequence[Document],
        *,
        author: str,
        expected: int | None,
        now: datetime,
        message: str = "",
    ) -> Revision:
        newest = await self.newest()
        if expected is not None and expected != newest.number:
            raise Conflict(expected, newest.number)
        made = Revision(newest.number + 1, now.astimezone(UTC), author, tuple(documents), message)
        data = _packed(made)
        if len(data) > MAX_BYTES:
            size = f"the policies take {len(data)} bytes compressed, a Swarm config {MAX_BYTES}"
            raise StorageFull(f"{size}; use --store sqlite")
        if not await self._create(made.number, data):
            raise Conflict(newest.number if expected is None else expected, made.number)
        self._newest = made
        with suppress(StoreError):  # tried again with the next revision
            await self._prune(made.number)
        return made

    async def close(self) -> None:
        """Nothing is open here."""

    async def _create(self, number: int, data: bytes) -> bool:
        try:
            return await self._configs.create_config(self._name(number), data, {self._label: str(number)})
        except DiscoveryError as error:
            raise StoreError(f"the Swarm does not store revision {number}: {error}") from error

    async def _one(self, number: int) -> Revision | None:
        try:
            found = await self._configs.config(self._name(number))
        except DiscoveryError as error:
            raise StoreError(f"the Swarm does not tell revision {number}: {error}") from error
        return self._read(found) if found is not None else None

    async def _all(self) -> list[Revision]:
        try:
            found = await self._configs.configs(self._label)
        except DiscoveryError as error:
            raise StoreError(f"the Swarm does not list the revisions: {error}") from error
        return sorted((self._read(each) for each in found), key=lambda revision: revision.number)

    def _name(self, number: int) -> str:
        return f"{self._label.replace('.', '-')}-{number:010d}"

    def _read(self, config: Mapping[str, Any]) -> Revision:
        name = str(config.get("Spec", {}).get("Name", "?"))
        try:
            revision = _unpacked(config["Spec"]["Data"])
            if self._name(revision.number) != name:
                raise ValueError("it is another revision")  # noqa: TRY301 - one way out for all damage
        except (KeyError, TypeError, ValueError, EOFError, OSError, AttributeError) as error:
            raise StoreError(f"the Docker config {name} is damaged: {error}") from error
        return revision

    async def _prune(self, newest: int) -> None:
        try:
            names = [str(each["Spec"]["Name"]) for each in await self._configs.configs(self._label)]
            for name in sorted(names):
                if int(name.rpartition("-")[2]) <= newest - self._keep:
                    await self._configs.remove_config(name)
        except (DiscoveryError, ValueError, KeyError) as error:
            raise StoreError(f"old revisions cannot be pruned: {error}") from error


def _packed(revision: Revision) -> bytes:
    content = {
        "number": revision.number,
        "created": revision.created.isoformat(),
        "author": revision.author,
        "message": revision.message,
        "documents": [[d.name, d.text, d.namespace, d.line] for d in revision.documents],
    }
    text = json.dumps({**content, "hash": _hash(content)}, ensure_ascii=True, separators=(",", ":"))
    return gzip.compress(text.encode(), mtime=0)


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=True, sort_keys=True).encode()).hexdigest()


def _unpacked(data: str) -> Revision:
    content = json.loads(gzip.decompress(base64.b64decode(data, validate=True)))
    if content.pop("hash") != _hash(content):
        raise ValueError("its content does not match its hash")
    return Revision(
        content["number"],
        datetime.fromisoformat(content["created"]),
        content["author"],
        tuple(Document(*fields) for fields in content["documents"]),
        content["message"],
    )
