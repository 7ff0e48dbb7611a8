"""Every document reads again from the text that is kept of it, as the same value at the same place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshpy.policy import PolicySet, load, load_documents
from tests.conformance.test_schemas import EXAMPLES


def _values(policies: PolicySet) -> PolicySet:
    return replace(policies, documents=())


@pytest.mark.parametrize("indent", ["", "  "], ids=["plain", "indented"])
def test_documents_read_again_from_their_own_text(indent: str) -> None:
    kinds = set()
    for text in EXAMPLES:
        shifted = "\n".join(f"{indent}{line}" if line.strip() else line for line in text.splitlines())
        first = load([("a.yml", shifted)])
        again = load_documents(first.documents)
        assert again.documents == first.documents
        assert _values(again) == _values(first)
        kinds.update(document.kind for document in first.documents)
    assert len(kinds) > 10
