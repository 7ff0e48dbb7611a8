"""The page of the operator API, out of the OpenAPI document that the control plane serves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from control_plane.api.openapi import describe
from control_plane.app import operator_routes
from control_plane.parts import Parts

__all__ = ["pages"]


class _Closed:
    """Stands for the parts of a control plane: routes are only listed, none is called."""

    def __getattr__(self, name: str) -> _Closed:
        return self


def pages() -> dict[str, str]:
    """Page name → Markdown."""
    document = describe(operator_routes(cast("Parts", _Closed())))
    lines = [
        "# Operator API",
        "",
        "JSON over HTTP(S), bearer tokens of the roles viewer, editor and admin. Refusals are",
        "`application/problem+json` (RFC 9457). The control plane serves this as OpenAPI at `/openapi.json`.",
        "",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += _operation(f"{method.upper()} {path}", operation)
    return {"api": "\n".join(lines)}


def _operation(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    role = operation.get("x-role")
    yield f"{operation['summary']}. " + (f"Role: {role}." if role else "Open to everybody.")
    yield ""
    parameters = [each for each in operation.get("parameters", ()) if each["in"] != "path"]
    if parameters:
        yield "| parameter | takes | is |"
        yield "|---|---|---|"
        for each in parameters:
            schema = json.dumps(each["schema"]).replace("|", "\\|")
            yield f"| `{each['name']}` ({each['in']}) | `{schema}` | {each.get('description', '')} |"
        yield ""
    for about, content in _contents(operation):
        yield f"{about}:"
        yield ""
        yield "```json"
        yield json.dumps(content, indent=2, ensure_ascii=False)
        yield "```"
        yield ""


def _contents(operation: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    body = operation.get("requestBody", {}).get("content", {})
    for media, said in body.items():
        yield f"Takes `{media}`", said["schema"]
    for status, answer in operation["responses"].items():
        for media, said in answer.get("content", {}).items():
            if status != "default" and said["schema"] != {"type": "object"}:
                yield f"{status}, {answer['description']} (`{media}`)", said["schema"]
