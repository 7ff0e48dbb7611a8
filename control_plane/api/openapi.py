"""`/openapi.json` (OpenAPI 3.1.0): made from the routes themselves, so that it cannot say something else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from control_plane.api.routes import Route
from control_plane.api.schemas import PROBLEM
from control_plane.api.texts import PARAMETERS

__all__ = ["describe"]

_PARAMETER = re.compile(r"\{(\w+)\}")


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "meshpy control plane", "version": version("swarm-meshpy")},
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    status, text, schema = route.answer
    answer: dict[str, Any] = {"description": text}
    if schema is not None:
        answer["content"] = {"application/json": {"schema": schema}}
    refusal = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if route.refusal is not None:
        refusal["application/json"] = {"schema": route.refusal}
    # What is no HTTP request at all is answered before any of this is asked.
    refusal["text/plain"] = {"schema": {"type": "string"}}
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__ + _camel(route.path),
        "summary": route.summary,
        "security": [{"token": []}] if route.role is not None else [],
        "responses": {str(status): answer, "default": {"description": "a refusal", "content": refusal}},
    }
    if route.role is not None:
        operation["x-role"] = route.role.name.lower()
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": PARAMETERS[name]}
        for name in _PARAMETER.findall(route.path)
    ] + [
        {
            "name": name,
            "in": "query",
            "required": name in route.needs,
            "schema": schema,
            "description": description,
        }
        for name, (schema, description) in route.query.items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": route.body}}}
    return operation


def _camel(path: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[^a-zA-Z0-9]+", path) if part)
