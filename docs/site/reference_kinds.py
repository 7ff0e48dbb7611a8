"""The pages of kinds and of `x-mesh`: field trees, out of the same JSON Schemas that editors get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshpy.inject.short_schema import schema_of_x_mesh
from meshpy.policy.schema import kinds, schema_of

__all__ = ["pages"]

_DEEPEST = 12


def pages() -> dict[str, str]:
    """Page name → Markdown."""
    made = [_page(name) for name in kinds()]
    index = [
        "# Kinds",
        "",
        "Every field that is read. Any other is refused with file, line, column and what to write instead.",
        "",
        *(f"- [{title}](kinds/{name}.md): `{'`, `'.join(versions)}`" for name, title, versions, _ in made),
        "",
    ]
    texts = {"kinds": "\n".join(index), "x-mesh": _x_mesh()}
    return texts | {f"kinds/{name}": text for name, _, _, text in made}


def _page(name: str) -> tuple[str, str, list[str], str]:
    schema = schema_of(name)
    properties = schema["properties"]
    versions = properties["apiVersion"].get("enum") or [properties["apiVersion"]["const"]]
    lines = [f"# {schema['title']}", "", "apiVersion: " + ", ".join(f"`{each}`" for each in versions), ""]
    lines += [f"`meshpy policy schema {name}` prints it as JSON Schema.", "", *_table(properties, schema, {})]
    return name, schema["title"], versions, "\n".join(lines)


def _x_mesh() -> str:
    schema = schema_of_x_mesh()
    definitions = schema["$defs"]
    lines = ["# x-mesh", "", "What a stack file can say to the mesh: see [injecting](../inject.md) and"]
    lines += ["[policies in the stack file](../stack-policies.md).", ""]
    for title, name in (("At the root", "root"), ("In a service", "service")):
        lines += [f"## {title}", "", *_table(definitions[name]["properties"], schema, definitions)]
    return "\n".join(lines)


def _table(properties: Mapping[str, Any], root: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    rows = [
        row
        for name, schema in properties.items()
        if name not in ("apiVersion", "kind")
        for row in _rows(name, schema, root, known, _DEEPEST)
    ]
    return ["| field | takes |", "|---|---|", *(f"| `{path}` | {text} |" for path, text in rows), ""]


def _rows(
    path: str, schema: Mapping[str, Any], root: Mapping[str, Any], known: Mapping[str, Any], depth: int
) -> Iterator[tuple[str, str]]:
    """A row for the field and one for each below it; of a kind inside `policies` only the name."""
    schema = _resolved(schema, root)
    forms = [_resolved(form, root) for form in schema.get("anyOf", [schema])]
    names = [title for form in forms if (title := form.get("title")) in known or form.get("title")]
    if names:
        yield path, "one of " + ", ".join(f"`{name}`" for name in names)
        return
    told = " or ".join(dict.fromkeys(_word(form, root) for form in forms)) or "anything"
    yield path, told
    if depth == 0:
        return
    for form in forms:
        if "items" in form:
            yield from list(_rows(f"{path}[]", form["items"], root, known, depth - 1))[1:]
        needed = set(form.get("required", ()))
        for name, inner in form.get("properties", {}).items():
            found = list(_rows(f"{path}.{name}", inner, root, known, depth - 1))
            if name in needed:
                found[0] = (found[0][0], f"{found[0][1]}; **required**")
            yield from found
        rest = form.get("additionalProperties")
        if isinstance(rest, Mapping) and rest.get("properties"):
            yield from list(_rows(f"{path}.*", rest, root, known, depth - 1))[1:]


def _word(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        inner = _resolved(schema.get("items", {}), root)
        forms = [_resolved(form, root) for form in inner.get("anyOf", [inner])]
        return "list of " + " or ".join(dict.fromkeys(_word(form, root) for form in forms))
    if kind == "object":
        rest = schema.get("additionalProperties")
        return (
            f"name → {_word(_resolved(rest, root), root)}" if isinstance(rest, Mapping) and rest else "object"
        )
    if "minimum" in schema and abs(schema["minimum"]) < 1e9 and schema["maximum"] < 1e12:
        return f"{kind}, {schema['minimum']:g} to {schema['maximum']:g}"
    return str(kind)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    while (target := schema.get("$ref")) is not None:
        found: Any = root
        for part in target.removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema
