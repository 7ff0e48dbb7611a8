"""What every document has, whatever it says: its identity; and hosts as documents write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshpy.errors import Place

__all__ = ["HostRef", "Meta"]


@dataclass(frozen=True, slots=True)
class Meta:
    """Identity of a document; `namespace` is empty for kinds that have none."""

    kind: str
    namespace: str
    name: str
    place: Place
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """As refusals and logs name it: `VirtualService shop/catalog`, `Tier platform`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class HostRef:
    """A host as written; short names belong to the document's namespace."""

    host: str
    place: Place
