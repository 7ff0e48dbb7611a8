"""The one place where the control plane calls the policy language: read, check, compile."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from control_plane.compiling import Compiled
from control_plane.policy_set import readable
from control_plane.snapshots import printed
from control_plane.store.revisions import Document
from meshpy.compile import Compilation, Inputs, check, compile_changed
from meshpy.model.inventory import Inventory
from meshpy.model.names import ServiceName
from meshpy.policy import PolicySet, load_documents

__all__ = ["MeshLanguage"]


@dataclass(frozen=True, slots=True)
class MeshLanguage:
    """`registry.Language` as meshpy speaks it."""

    trust_domain: str

    def read(self, documents: Sequence[Document]) -> PolicySet:
        with _uncollected():
            return load_documents(readable(documents))

    def compile(
        self,
        inventory: Inventory,
        policies: PolicySet,
        revision: int,
        *,
        denied: frozenset[ServiceName],
        keys: Mapping[str, str],
        strict: bool,
        last: Compiled | None = None,
    ) -> Compiled:
        with _uncollected():
            return self._compiled(inventory, policies, revision, denied, keys, last, strict=strict)

    def _compiled(
        self,
        inventory: Inventory,
        policies: PolicySet,
        revision: int,
        denied: frozenset[ServiceName],
        keys: Mapping[str, str],
        last: Compiled | None,
        *,
        strict: bool,
    ) -> Compiled:
        ids = frozenset(f"spiffe://{self.trust_domain}{service.spiffe_path}" for service in denied)
        inputs = Inputs(inventory, policies, self.trust_domain, ids, keys)
        before = last.source if last is not None and isinstance(last.source, Compilation) else None
        source, fresh = compile_changed(before, inputs, revision=revision)
        held = last.snapshots if last is not None and before is not None else {}
        snapshots = {
            name: printed(fresh[name]) if name in fresh else held[name].at(revision)
            for name, service in sorted(inventory.services.items())
            if not service.exempt
        }
        if last is not None and before is not None and _checked_alike(before, source, last):
            return Compiled(snapshots, last.errors, last.warnings, source)
        findings = check(inventory, policies, strict=strict, compilation=source)
        return Compiled(snapshots, findings.errors, findings.warnings, source)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Nearly all that is made here lives on: looking for garbage took a quarter of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _checked_alike(before: Compilation, now: Compilation, last: Compiled) -> bool:
    """Whether `check` would find what it found: endpoints, which it does not look at, alone changed."""
    is_same_set = before.inputs.policies is now.inputs.policies
    return is_same_set and before.mesh.selection is now.mesh.selection and not last.errors
