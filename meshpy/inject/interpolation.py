"""Docker's `${…}` as far as the injector must see through it: the value when nothing is set outside.

Grammar (docker/cli cli/compose/template): `$$`, `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`,
`${NAME:?error}`, `${NAME?error}`; no nesting. Texts are never changed by meshpy, only read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["UNKNOWN", "has_variable", "interpolate", "substitute", "substitute_known"]

UNKNOWN = "\0"
"""Stands for a variable whose value only the deployer knows; no YAML text contains it."""

VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<named>[_a-zA-Z][_a-zA-Z0-9]*)"
    r"|\{(?P<braced>[_a-zA-Z][_a-zA-Z0-9]*)(?:(?P<op>:?-|:?\?)(?P<argument>[^}]*))?\})"
)


def has_variable(text: str) -> bool:
    """True when docker would replace a part of the text."""
    return any(not match["escaped"] for match in VARIABLE.finditer(text))


def substitute(text: str) -> str | None:
    """The text with every variable at its default; None when one has no default."""
    result = substitute_known(text)
    return None if UNKNOWN in result else result


def substitute_known(text: str) -> str:
    """The text with every variable at its default, and `UNKNOWN` for each that has none."""
    return VARIABLE.sub(_default, text)


def _default(match: re.Match[str]) -> str:
    if match["escaped"]:
        return "$"
    return (match["argument"] or "") if match["op"] in ("-", ":-") else UNKNOWN


def interpolate(text: str, env: Mapping[str, str]) -> str:
    """The text as docker makes it of an environment; a variable that is set nowhere is empty."""
    return VARIABLE.sub(lambda match: _in(match, env), text)


def _in(match: re.Match[str], env: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "$"
    value = env.get(match["named"] or match["braced"])
    op, argument = match["op"] or "", match["argument"] or ""
    if op.endswith("-") and (value is None or (op == ":-" and not value)):
        return argument
    return value or ""
