"""Docker's `${…}` as far as the injector must see through it: the value when nothing is set outside.

Grammar (docker/cli cli/compose/template): `$$`, `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`,
`${NAME:?error}`, `${NAME?error}`; no nesting. Texts are never changed by meshpy, only read.
"""

from __future__ import annotations

import re

__all__ = ["has_variable", "substitute"]

VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<named>[_a-zA-Z][_a-zA-Z0-9]*)"
    r"|\{(?P<braced>[_a-zA-Z][_a-zA-Z0-9]*)(?:(?P<op>:?-|:?\?)(?P<argument>[^}]*))?\})"
)


def has_variable(text: str) -> bool:
    """True when docker would replace a part of the text."""
    return any(not match["escaped"] for match in VARIABLE.finditer(text))


def substitute(text: str) -> str | None:
    """The text with every variable at its default; None when one has no default."""
    unknown = False

    def value(match: re.Match[str]) -> str:
        nonlocal unknown
        if match["escaped"]:
            return "$"
        if match["op"] in ("-", ":-"):
            return match["argument"] or ""
        unknown = True
        return ""

    result = VARIABLE.sub(value, text)
    return None if unknown else result
