"""Values -> YAML text that go-yaml and every YAML 1.1 or 1.2 reader take for the same values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["block", "flow", "key"]

SAFE = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*(?::[A-Za-z0-9_./-]+)*")
WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})


def scalar(value: Any) -> str:
    """A scalar; strings are quoted unless no reader could take them for anything else."""
    if isinstance(value, str):
        if SAFE.fullmatch(value) and value.lower() not in WORDS:
            return value
        return "".join(_escape(char) for char in json.dumps(value, ensure_ascii=False))
    return json.dumps(value)


def _escape(char: str) -> str:
    code = ord(char)
    if 0x7F <= code <= 0x9F or code in (0x2028, 0x2029, 0xFEFF) or 0xD800 <= code <= 0xDFFF:
        return f"\\u{code:04x}"
    return char


def key(name: str) -> str:
    """A mapping key."""
    return scalar(name)


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def block(name: str, value: Any, column: int) -> list[str]:
    """`name: value` as lines that start at a column; mappings are spread, short lists are not."""
    return [" " * column + line for line in _entry(name, value)]


def _entry(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield f"{key(name)}:"
        for sub_name, sub_value in value.items():
            for line in _entry(sub_name, sub_value):
                yield f"  {line}"
    elif (
        isinstance(value, list)
        and value
        and (any(isinstance(i, dict | list) for i in value) or len(flow(value)) > 80)
    ):
        yield f"{key(name)}:"
        for item in value:
            yield f"  - {flow(item)}"
    else:
        yield f"{key(name)}: {flow(value)}"
