"""The policies that a stack file states itself, put in force with the stack."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from meshpy.client import Operator
from meshpy.compile import check
from meshpy.errors import DocumentError
from meshpy.inject import InjectOptions, inventory_of_stack, policies_of_stack
from meshpy.policy import Document, load_documents

__all__ = ["apply_stack_policies", "put_in_force", "stated_policies"]

DISCOVERY_S = 30.0


def stated_policies(text: str, file: str, stack: str, options: InjectOptions) -> tuple[Document, ...]:
    """The policies that a stack file states, checked against its own services.

    Raises:
        DocumentError: what is wrong with them; nothing was deployed.
    """
    stated = policies_of_stack(text, stack, file, options)
    if stated:
        inventory = inventory_of_stack(text, stack, file, options)
        findings = check(inventory, load_documents(stated))
        if findings.errors:
            raise DocumentError(findings.errors)
    return stated


def put_in_force(
    operator: Operator, stack: str, documents: Sequence[Document], within_s: float = DISCOVERY_S
) -> int | None:
    """`apply_stack_policies`, tried again while the control plane has yet to discover new services.

    Raises:
        DocumentError: it refuses them still after `within_s`.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            return apply_stack_policies(operator, stack, documents)
        except DocumentError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _mark(stack: str) -> str:
    return f"#x-mesh={stack}"


def _named_texts(documents: Iterable[Document], stack: str) -> list[dict[str, str]]:
    """As the operator API takes them: the name tells the stack, empty lines keep the place in its file."""
    return [_sent(f"{doc.file}{_mark(stack)}", doc.text, doc.line, stack) for doc in documents]


def _sent(name: str, text: str, line: int, namespace: str) -> dict[str, str]:
    return {"name": name, "text": "\n" * (line - 1) + text, "namespace": namespace}


def apply_stack_policies(operator: Operator, stack: str, documents: Sequence[Document]) -> int | None:
    """Put a stack's own policies in the place of those that it stated when it was last deployed.

    All other policies stay as they are; somebody's change in between is a conflict, never lost.

    Returns:
        The revision, None when nothing changed.

    Raises:
        DocumentError: the control plane refuses them; nothing was changed.
    """
    held: Mapping[str, Any] = operator.call("GET", "/v1/policies")
    wanted = _named_texts(documents, stack)
    stated = [item for item in held["documents"] if item["name"].endswith(_mark(stack))]
    sent = [_sent(item["name"], item["text"], item["line"], stack) for item in stated]
    if [(item["name"], item["text"]) for item in sent] == [(item["name"], item["text"]) for item in wanted]:
        return None
    kept = [
        _sent(item["name"], item["text"], item["line"], item["namespace"])
        for item in held["documents"]
        if not item["name"].endswith(_mark(stack))
    ]
    body = {
        "documents": [*kept, *wanted],
        "expected_revision": held["revision"],
        "message": f"policies of the stack file of {stack}",
    }
    revision: int = operator.call("PUT", "/v1/policies", body)["revision"]
    return revision
