"""How the schemas of the operator API are put together (OpenAPI 3.1 uses JSON Schema 2020-12)."""

from __future__ import annotations

from typing import Any

__all__ = ["COUNT", "NUMBER", "ROLE", "TEXT", "Schema", "closed", "list_of", "or_null", "record"]

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
ROLE: Schema = {"enum": ["viewer", "editor", "admin"]}


def record(members: Schema, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in members if name not in optional]
    return {"type": "object", "properties": members, "required": required}


def closed(members: Schema, optional: tuple[str, ...] = ()) -> Schema:
    """As requests have it: what is not known is refused."""
    return {**record(members, optional), "additionalProperties": False}


def list_of(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}
