"""The live mesh as the control plane knows it, compiled here: its inventory, its policies, and candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from meshpy.analysis.diff import Diff, diff
from meshpy.cli.offline import Offline
from meshpy.cli.progress import counting
from meshpy.client import Operator
from meshpy.compile import check, compile_mesh
from meshpy.errors import Place
from meshpy.model.inventory import Inventory
from meshpy.policy import Document, PolicySet, load_documents
from meshpy.wire import decode

__all__ = ["applied_diff", "compiled", "documents_of", "live_mesh", "merged"]


def documents_of(answer: Mapping[str, Any]) -> PolicySet:
    """The policies of `GET /v1/policies` or of a revision, read from their texts."""
    return load_documents(
        Document("", each["namespace"], "", each["text"], each["name"], Place(each["name"]), each["line"])
        for each in answer["documents"]
    )


def live_mesh(operator: Operator, namespace: str, candidate: PolicySet | None = None) -> Offline:
    """What runs, under the policies in force or under others.

    Raises:
        ApiError: the control plane cannot be asked.
    """
    answer = operator.call("GET", "/v1/inventory")
    policies = candidate if candidate is not None else documents_of(operator.call("GET", "/v1/policies"))
    return compiled(decode(Inventory, answer["inventory"]), policies, namespace, answer["trust_domain"])


def compiled(inventory: Inventory, policies: PolicySet, namespace: str, trust_domain: str) -> Offline:
    """The mesh of an inventory under policies, errors of the policies aside."""
    findings = check(inventory, policies, strict=False)
    snapshots = compile_mesh(inventory, policies, trust_domain=trust_domain, revision=0)
    return Offline(namespace, inventory, snapshots, findings.warnings, policies)


def applied_diff(
    operator: Operator, texts: Sequence[Mapping[str, str]], namespace: str, *, prune: bool
) -> Diff:
    """What requests would be treated otherwise once these documents are applied.

    Args:
        prune: they replace the whole set; otherwise each replaces the one of its identity.

    Raises:
        ApiError: the control plane cannot be asked.
        DocumentError: the documents cannot be read.
    """
    answer = operator.call("GET", "/v1/inventory")
    inventory, domain = decode(Inventory, answer["inventory"]), answer["trust_domain"]
    before = documents_of(operator.call("GET", "/v1/policies"))
    fresh = load_documents(
        Document("", each.get("namespace", namespace), "", each["text"], each["name"], Place(each["name"]), 1)
        for each in texts
    )
    after = fresh if prune else load_documents(merged(before.documents, fresh.documents))
    old, new = (compiled(inventory, policies, namespace, domain).snapshots for policies in (before, after))
    return diff(old, new, progress=counting())


def merged(old: Iterable[Document], new: Iterable[Document]) -> list[Document]:
    """The set after an upsert: each new document replaces the one of its identity."""
    found = {document.identity: document for document in old}
    found.update({document.identity: document for document in new})
    return list(found.values())
