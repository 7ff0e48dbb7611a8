"""The registry: inventory and policies in, snapshots out; what does not compile changes nothing.

Both inputs change on their own. A policy change is compiled before it is stored, so that a set that does not
fit is refused. An inventory change is compiled soon after it came (bursts are taken together), with what the
policies miss in it reported; if that fails, the last good snapshots stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from control_plane.changes import Applied, Change
from control_plane.compiling import Compiled, Language
from control_plane.discovery.view import View, without
from control_plane.errors import Conflict, NotFound, StoreError, Unavailable
from control_plane.policy_set import stored
from control_plane.snapshots import Printed, Shelf, is_candidate
from control_plane.store.revisions import EMPTY, Document, Revision, Store
from meshpy.compile import keys_uris
from meshpy.errors import DocumentError, MeshpyError
from meshpy.model.inventory import Inventory
from meshpy.model.names import ServiceName
from meshpy.policy.policy_set import Document as PolicyDocument
from meshpy.policy.policy_set import PolicySet

__all__ = ["Applied", "Change", "Registry"]

SETTLE_S = 0.05
FOLLOW_S = 1.0
FIRST_VIEW_S = 5.0

Notify = Callable[[set[ServiceName]], None]


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What one compilation was made of."""

    inventory: Inventory
    denied: frozenset[ServiceName]
    keys: Mapping[str, str]
    revision: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A change that was read and compiled, and could be put in force."""

    inputs: _Inputs
    documents: tuple[Document, ...]
    policies: PolicySet
    compiled: Compiled

    @property
    def number(self) -> int:
        return self.inputs.revision


class Registry:
    """Args:
    store: where revisions are kept.
    language: reads, checks and compiles them.
    """

    def __init__(self, store: Store, language: Language) -> None:
        self._store, self._language = store, language
        self.notify: Notify = lambda _changed: None
        self.shelf = Shelf()
        self.view = View()
        self.revision: Revision = EMPTY
        self.problems: tuple[str, ...] = ()
        self.compile_s = 0.0
        self._found = 0
        self.unread = ""
        self._read_at_s = time.monotonic()
        self._viewed = asyncio.Event()
        self._inventory = Inventory()
        self._draining: frozenset[str] = frozenset()
        self._policies = PolicySet()
        self._turn = asyncio.Lock()
        self._staged: tuple[Change, _Prepared] | None = None
        self._inventory_changed = asyncio.Event()
        self._denied: frozenset[ServiceName] = frozenset()
        self._keys: Mapping[str, str] = {}
        self._compiled: _Inputs | None = None
        self._last: Compiled | None = None

    async def start(self) -> None:
        """Read the newest revision.

        Raises:
            StoreError: the store cannot be read.
            DocumentError: the stored documents are not understood by this version.
        """
        await self._catch_up()
        self._found = self.revision.number

    def is_lost(self, revision: int, version: str) -> bool:
        """Whether a sidecar that holds this shows that the store lost a revision, and nobody acted since.

        The candidate of a canary, which may have ended with another replica, was never in the store.
        """
        stored = revision - 1 if is_candidate(version) else revision
        return self.revision.number == self._found and stored > self.revision.number

    async def read(self, documents: Sequence[Document]) -> Sequence[PolicyDocument]:
        """Cut texts into policies.

        Raises:
            DocumentError: any of them is wrong; all problems are named.
        """
        return (await asyncio.to_thread(self._language.read, documents)).documents

    async def check(self, documents: Sequence[Document]) -> None:
        """Nothing, where these documents could be put in force as the whole set.

        What they miss in the inventory of now is no reason against them: it may come after them.

        Raises:
            DocumentError: they are wrong; all problems are named.
        """
        policies = await asyncio.to_thread(self._language.read, documents)
        compiled = await self._compile(policies, self._inputs(self.revision.number + 1), strict=False)
        if compiled.errors:
            raise DocumentError(compiled.errors)

    async def would_be(self, policies: PolicySet) -> Mapping[ServiceName, Printed]:
        """The snapshots that other policies would make of the mesh of now; those that stay are the same."""
        compiled = await self._compile(policies, self._inputs(self.revision.number), strict=False)
        return compiled.snapshots

    def set_view(self, view: View) -> None:
        """Take what discovery found; what sidecars must know of it is compiled soon."""
        self.view = view
        self._draining &= view.tasks.keys()
        self._take_inventory()
        self._viewed.set()

    def set_draining(self, service: ServiceName, task: str, address: str) -> None:
        """Send callers elsewhere: a task of the service says, from its own address, that it will stop."""
        found = self.view.tasks.get(task)
        if found is not None and found.service == service and address in found.mesh_addresses:
            self._draining |= {task}
            self._take_inventory()

    def _take_inventory(self) -> None:
        found = without(self.view, self._draining)
        if not self._viewed.is_set() or found != self._inventory:
            self._inventory = found
            self._inventory_changed.set()

    def set_denied(self, services: frozenset[ServiceName]) -> None:
        """Take the revoked identities; every sidecar is told soon."""
        self._denied = services
        self._inventory_changed.set()

    def set_keys(self, keys: Mapping[str, str]) -> None:
        """Take the keys of token issuers; sidecars that verify tokens are told soon."""
        self._keys = keys
        self._inventory_changed.set()

    @property
    def keys_wanted(self) -> Mapping[str, float]:
        """Whence keys must be fetched for the policies in force and those that are staged."""
        staged = self._staged[1].policies if self._staged is not None else PolicySet()
        return {**keys_uris(staged), **keys_uris(self._policies)}

    async def run(self) -> None:
        """Compile after every change of the inventory, until cancelled."""
        while True:
            await self._inventory_changed.wait()
            await asyncio.sleep(SETTLE_S)
            self._inventory_changed.clear()
            async with self._turn:
                await self._recompile()

    async def follow(self) -> None:
        """Take revisions that other replicas stored, until cancelled; a store that fails is asked again."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                newest = await self._store.newest()
            except StoreError as error:
                self.unread = self.unread or str(error)
                continue
            self.unread, self._read_at_s = "", time.monotonic()
            if newest.number != self.revision.number:
                self._inventory_changed.set()

    @property
    def unread_s(self) -> float:
        """For how long the store could not be read; 0 while it can."""
        return time.monotonic() - self._read_at_s if self.unread else 0.0

    async def change(self, change: Change, *, dry_run: bool = False) -> Applied:
        """Change the policy set: read, compile, store, put in force, in this order.

        Raises:
            DocumentError: the wanted set is wrong; nothing changed.
            Conflict: another revision came first.
            StoreError: it could not be stored; nothing changed.
            ReadOnly: policies come from elsewhere.
            Unavailable: no inventory was read yet, so nothing can be checked.
        """
        if not dry_run:
            self._store.check_writable()
        await self._wait_for_view()
        async with self._turn:
            if self._staged is not None and not dry_run:
                raise Conflict.during_rollout(self._staged[1].number)
            prepared = await self._prepare(change)
            if dry_run:
                differing = self._differing(prepared.compiled)
                return Applied(self.revision.number, prepared.compiled.warnings, differing)
            return await self._commit(change, prepared)

    async def stage(self, change: Change) -> Applied:
        """Compile a change and hold its snapshots for canaries; nothing is stored, nothing is in force.

        Raises:
            As `change`; Conflict also when another one is staged.
        """
        self._store.check_writable()
        await self._wait_for_view()
        async with self._turn:
            if self._staged is not None:
                raise Conflict.during_rollout(self._staged[1].number)
            prepared = await self._prepare(change)
            self._staged = (change, prepared)
            return Applied(prepared.number, prepared.compiled.warnings, self._stage(prepared.compiled))

    async def promote(self) -> Applied:
        """Store what is staged and put it in force everywhere.

        Raises:
            NotFound: nothing is staged.
            StoreError: it could not be stored; it stays staged.
        """
        async with self._turn:
            if self._staged is None:
                raise NotFound("no canary is under way")
            change, prepared = self._staged
            await self._catch_up()
            if self.revision.number != prepared.number - 1:
                raise Conflict(prepared.number - 1, self.revision.number)
            inputs = self._inputs(prepared.number)
            compiled = await self._compile(prepared.policies, inputs, strict=False)
            applied = await self._commit(change, replace(prepared, inputs=inputs, compiled=compiled))
            self._staged = None
            self.shelf.stage({})
            return applied

    async def unstage(self) -> None:
        """Forget what is staged."""
        async with self._turn:
            self._staged = None
            self.shelf.stage({})

    async def _commit(self, change: Change, prepared: _Prepared) -> Applied:
        self.revision = await self._store.append(
            prepared.documents,
            author=change.author,
            expected=self.revision.number,
            now=datetime.now(UTC),
            message=change.message,
        )
        self._policies, self._compiled = prepared.policies, prepared.inputs
        differing = self._differing(prepared.compiled)
        self._put_in_force(prepared.compiled)
        return Applied(prepared.number, prepared.compiled.warnings, differing)

    async def _prepare(self, change: Change) -> _Prepared:
        await self._catch_up()
        newest = self.revision.number
        if change.expected is not None and change.expected != newest:
            raise Conflict(change.expected, newest)
        documents = stored(change.edit(self._policies.documents))
        policies = await asyncio.to_thread(self._language.read, documents)
        inputs = self._inputs(newest + 1)
        compiled = await self._compile(policies, inputs, strict=True)
        if compiled.errors:
            raise DocumentError(compiled.errors)
        return _Prepared(inputs, documents, policies, compiled)

    def _inputs(self, revision: int) -> _Inputs:
        return _Inputs(self._inventory, self._denied, self._keys, revision)

    @property
    def documents(self) -> tuple[PolicyDocument, ...]:
        """The policies in force."""
        return self._policies.documents

    @property
    def services(self) -> frozenset[ServiceName]:
        """The services that have a snapshot."""
        return frozenset(self.shelf.items())

    @property
    def is_ready(self) -> bool:
        """Whether an inventory was read and compiled."""
        return self._compiled is not None

    async def _catch_up(self) -> None:
        """Take the newest revision: another process may share the store."""
        newest = await self._store.newest()
        if newest.number != self.revision.number:
            self._policies = await asyncio.to_thread(self._language.read, newest.documents)
            self.revision = newest

    async def _wait_for_view(self) -> None:
        try:
            async with asyncio.timeout(FIRST_VIEW_S):
                await self._viewed.wait()
        except TimeoutError:
            raise Unavailable("no inventory was read yet; see `discovery` in /v1/status") from None

    async def _recompile(self) -> None:
        try:
            await self._catch_up()
            wanted = self._inputs(self.revision.number)
            if wanted == self._compiled or not self._viewed.is_set():
                return
            compiled = await self._compile(self._policies, wanted, strict=False)
        except MeshpyError as error:
            self.problems = (str(error),)
        else:
            self._compiled = wanted
            self._put_in_force(compiled)
            await self._restage()

    async def _restage(self) -> None:
        """Compile what is staged for the inventory of now; if that fails, canaries keep theirs."""
        if self._staged is not None:
            prepared = self._staged[1]
            try:
                inputs = self._inputs(prepared.number)
                compiled = await self._compile(prepared.policies, inputs, strict=False)
            except MeshpyError as error:
                self.problems = (*self.problems, f"canary of revision {prepared.number}: {error}")
            else:
                self.notify(set(self._stage(compiled)))

    def _stage(self, compiled: Compiled) -> frozenset[ServiceName]:
        differing = self._differing(compiled)
        self.shelf.stage({name: new for name, new in compiled.snapshots.items() if name in differing})
        return differing

    async def _compile(self, policies: PolicySet, inputs: _Inputs, *, strict: bool) -> Compiled:
        begin = time.perf_counter()
        compiled = await asyncio.to_thread(
            self._language.compile,
            inputs.inventory,
            policies,
            inputs.revision,
            denied=inputs.denied,
            keys=inputs.keys,
            strict=strict,
            last=self._last,
        )
        self.compile_s = time.perf_counter() - begin
        return compiled

    def _put_in_force(self, compiled: Compiled) -> None:
        found = (*compiled.errors, *compiled.warnings)
        self.problems = tuple(str(problem) for problem in found)
        self._last = compiled
        changed = self.shelf.replace(compiled.snapshots)
        self.notify(changed)

    def _differing(self, compiled: Compiled) -> frozenset[ServiceName]:
        """The services that get another snapshot than they hold, the revision's number aside."""
        held = self.shelf.items()
        return frozenset(
            name
            for name, new in compiled.snapshots.items()
            if name not in held or _content(new) != _content(held[name])
        ) | (set(held) - set(compiled.snapshots))


def _content(snapshot: Printed) -> dict[str, Any]:
    return {key: item for key, item in snapshot.data.items() if key not in ("version", "revision")}
