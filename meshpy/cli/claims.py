"""Claims of a question: written down, or taken from a token or file; nobody's signature is asked for here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from meshpy.errors import MeshpyError
from meshpy.jose import TokenError, read_token
from meshpy.jose.encoding import strict_object
from meshpy.policy.documents import Mapping, Node, Scalar, Sequence

__all__ = ["claims_of", "read_claims"]

_JSON_WORD = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def claims_of(node: Node) -> Any:
    """A node of YAML as the JSON that it would be; what is no number or word of JSON is a string."""
    match node:
        case Mapping():
            return {name.text: claims_of(value) for name, value in node.entries}
        case Sequence():
            return [claims_of(item) for item in node.items]
        case Scalar():
            is_word = node.plain and _JSON_WORD.fullmatch(node.text)
            return json.loads(node.text) if is_word else node.text


def read_claims(text: str) -> dict[str, Any]:
    """Claims from a JSON object, a token, or a file that holds either.

    Raises:
        MeshpyError: it is none of them.
    """
    text = text.strip()
    if not text.startswith("{"):
        try:
            text = Path(text).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            if text.count(".") != 2:
                what = "is neither claims, nor a token, nor a file with either"
                raise MeshpyError(f"{text[:100]!r} {what}") from None
    try:
        return strict_object(text) if text.startswith("{") else dict(read_token(text).payload)
    except ValueError as error:
        raise MeshpyError(f"the claims: the text {error}") from None
    except TokenError as error:
        raise MeshpyError(str(error)) from None
