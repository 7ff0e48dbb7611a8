"""What the registry asks of the policy language: texts read, and a mesh compiled of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from control_plane.snapshots import Printed
from control_plane.store.revisions import Document
from meshpy.errors import Problem
from meshpy.model.inventory import Inventory
from meshpy.model.names import ServiceName
from meshpy.policy.policy_set import PolicySet

__all__ = ["Compiled", "Language"]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one compilation gave, what the check found, and the compiler's notes for the next one."""

    snapshots: Mapping[ServiceName, Printed] = field(default_factory=dict)
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    source: object = None


class Language(Protocol):
    """Policy texts and the compiler; pure, called in a thread."""

    def read(self, documents: Sequence[Document]) -> PolicySet:
        """Read a set of documents.

        Raises:
            DocumentError: any of them is wrong; all problems are named.
        """

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
        """Check and compile what `read` returned.

        Args:
            last: an earlier compilation; what did not change since is taken from it.
            denied: services that every sidecar refuses.
            keys: URI → key set of a token issuer.
            strict: whether a policy that misses something in the inventory is an error, or a warning.
        """
