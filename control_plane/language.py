"""The one place where the control plane calls the policy language: read, check, compile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control_plane.policy_set import readable
from control_plane.registry import Compiled
from control_plane.snapshots import printed
from control_plane.store.revisions import Document
from meshpy.compile import check, compile_mesh
from meshpy.model.inventory import Inventory
from meshpy.model.names import ServiceName
from meshpy.policy import PolicySet, load_documents

__all__ = ["MeshLanguage"]


@dataclass(frozen=True, slots=True)
class MeshLanguage:
    """`registry.Language` as meshpy speaks it."""

    trust_domain: str

    def read(self, documents: Sequence[Document]) -> PolicySet:
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
    ) -> Compiled:
        findings = check(inventory, policies, strict=strict)
        ids = frozenset(f"spiffe://{self.trust_domain}{service.spiffe_path}" for service in denied)
        snapshots = compile_mesh(
            inventory, policies, trust_domain=self.trust_domain, revision=revision, denied=ids, keys=keys
        )
        return Compiled(
            {name: printed(snapshot) for name, snapshot in snapshots.items()},
            findings.errors,
            findings.warnings,
        )
