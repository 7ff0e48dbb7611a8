"""Changing a set of policy documents by identity (kind, namespace, name). Pure.

Texts stay as the operator wrote them, each with the line it stood on, so that problems keep pointing into the
operator's file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from control_plane.errors import NotFound
from control_plane.store.revisions import Document
from meshpy.errors import Place
from meshpy.policy.policy_set import Document as PolicyDocument

__all__ = ["readable", "removed", "stored", "upserted"]


def stored(documents: Iterable[PolicyDocument]) -> tuple[Document, ...]:
    """As the store keeps them."""
    return tuple(Document(d.file, d.text, d.namespace, d.line) for d in documents)


def readable(documents: Iterable[Document]) -> tuple[PolicyDocument, ...]:
    """As `meshpy.policy.load_documents` takes them; their identities are read from the texts again."""
    return tuple(
        PolicyDocument("", d.namespace, "", d.text, d.name, Place(d.name), d.line) for d in documents
    )


def upserted(
    held: Sequence[PolicyDocument], incoming: Sequence[PolicyDocument]
) -> tuple[PolicyDocument, ...]:
    """`held` with each of `incoming` in the place of the one of the same identity, or at the end."""
    new = {document.identity: document for document in incoming}
    replaced = [new.pop(document.identity, document) for document in held]
    return (*replaced, *new.values())


def removed(
    held: Sequence[PolicyDocument], kind: str, namespace: str, name: str
) -> tuple[PolicyDocument, ...]:
    """`held` without one policy; a kind that has no namespace goes by whichever is named.

    Raises:
        NotFound: there is none.
    """
    meant = {(kind, namespace, name), (kind, "", name)}
    kept = tuple(document for document in held if document.identity not in meant)
    if len(kept) == len(held):
        raise NotFound(f"there is no {kind} {namespace}/{name}")
    return kept
