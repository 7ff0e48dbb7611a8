"""Revisions in the Swarm's own Raft, shared by all replicas of the control plane.

A revision is a Docker config whose name carries its number, so that creating it is the compare-and-swap: the
managers accept one of several creations of a name (seen on engine 20.10: 1 of 8 parallel ones). Configs are
immutable but for their labels, and a label pins a revision. The content is compressed and carries a hash.
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

from control_plane.errors import Conflict, DiscoveryError, NotFound, StorageFull, StoreError
from control_plane.store.revisions import EMPTY, Document, Revision

__all__ = ["Configs", "SwarmStore"]

LABEL = "meshpy.revision"
PINNED = "meshpy.pinned"
PIN_TRIES = 5
MAX_BYTES = 1_000_000
"""Below the 1,024,000 bytes that the engine takes (SWARM: configs)."""
KEEP = 50
"""Revisions that are kept, besides those that are pinned; older ones are pruned."""


class Configs(Protocol):
    """Docker configs; `DockerClient` is the real one. All raise DiscoveryError when the engine fails."""

    async def configs(self, label: str) -> Sequence[Mapping[str, Any]]:
        """Those with this label, their data included."""

    async def config(self, name: str) -> Mapping[str, Any] | None:
        """One by name."""

    async def create_config(self, name: str, data: bytes, labels: Mapping[str, str]) -> bool:
        """Create one; False when the name is taken."""

    async def relabel_config(self, config: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
        """Replace the labels of one that was just read; False when another came first."""

    async def remove_config(self, name: str) -> None:
        """Remove one; one that is gone stays so."""


class SwarmStore:
    """One sequence of revisions.

    Args:
        label: of its configs; their names are `<label>-<number>`, dots as dashes.
    """

    def __init__(self, configs: Configs, label: str = LABEL, *, keep: int = KEEP) -> None:
        self._configs, self._label, self._keep = configs, label, keep
        self._newest: Revision | None = None
        self._pruned_to: int | None = None

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

    async def history(self, limit: int, before: int | None = None) -> Sequence[Revision]:
        found = await self._all()
        return [each for each in reversed(found) if before is None or each.number < before][:limit]

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

    async def pin(self, number: int) -> None:
        if number != 0:
            await self._set_pin(number, is_pinned=True)
            if await self._one(number) is None:  # it was pruned between the two questions
                raise NotFound(f"revision {number} is kept no more")

    async def unpin(self, number: int) -> None:
        with suppress(NotFound):
            await self._set_pin(number, is_pinned=False)

    async def pinned(self) -> frozenset[int]:
        try:
            found = await self._configs.configs(PINNED)
        except DiscoveryError as error:
            raise StoreError(f"the Swarm does not list the pins: {error}") from error
        labels = [each.get("Spec", {}).get("Labels") or {} for each in found]
        return frozenset(int(each[self._label]) for each in labels if each.get(self._label, "").isdecimal())

    def check_writable(self) -> None:
        """It always is."""

    @property
    def problems(self) -> tuple[str, ...]:
        return ()

    async def close(self) -> None:
        """Nothing is open here."""

    async def _set_pin(self, number: int, *, is_pinned: bool) -> None:
        try:
            for _ in range(PIN_TRIES):
                config = await self._configs.config(self._name(number))
                if config is None:
                    raise NotFound(f"there is no revision {number}")
                labels = {**config["Spec"]["Labels"], PINNED: "true"}
                if not is_pinned:
                    del labels[PINNED]
                if await self._configs.relabel_config(config, labels):
                    return
        except (DiscoveryError, KeyError) as error:
            raise StoreError(f"the Swarm does not pin revision {number}: {error}") from error
        raise StoreError(f"revision {number} is changed by others all the time; try again")

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
        """Remove what is neither among the last ones nor pinned.

        The first time all are listed; from then on each append looks at the one that fell out of the last.
        """
        last = newest - self._keep
        try:
            if self._pruned_to is None:
                listed = [_pruned(each) for each in await self._configs.configs(self._label)]
                for name, is_pinned in listed:
                    if not is_pinned and int(name.rpartition("-")[2]) <= last:
                        await self._remove(name)
            else:
                for number in range(self._pruned_to + 1, last + 1):
                    await self._remove(self._name(number))
        except (DiscoveryError, ValueError, KeyError) as error:
            raise StoreError(f"old revisions cannot be pruned: {error}") from error
        self._pruned_to = max(last, 0)

    async def _remove(self, name: str) -> None:
        config = await self._configs.config(name)  # read now: it may have been pinned a moment ago
        if config is not None and not _pruned(config)[1]:
            await self._configs.remove_config(name)


def _pruned(config: Mapping[str, Any]) -> tuple[str, bool]:
    """The name of a config, and whether it is pinned."""
    return str(config["Spec"]["Name"]), PINNED in (config["Spec"].get("Labels") or {})


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
