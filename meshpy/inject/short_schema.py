"""The JSON Schema of `x-mesh` in a stack file, from the readers of its policies and its known words."""

from __future__ import annotations

from typing import Any

from meshpy.inject.members import Plan
from meshpy.inject.options import Settings
from meshpy.inject.short_access import access_rules
from meshpy.inject.short_form import MTLS_MODES
from meshpy.inject.short_routes import limits_of, route_of
from meshpy.inject.stackfile import StackFile
from meshpy.inject.words import (
    ENVIRONMENT_KEY,
    POLICY_KEYS,
    ROOT_KEYS,
    ROOT_POLICY_KEYS,
    ROOT_SWITCHES,
    SERVICE_KEYS,
)
from meshpy.policy.gateway_servers import server
from meshpy.policy.schema import DRAFT, kinds, schema_of, schema_of_reader

__all__ = ["schema_of_x_mesh"]

_WORDS = {"type": ["string", "array", "boolean", "number"]}


def schema_of_x_mesh() -> dict[str, Any]:
    """A stack file: `x-mesh` at its root and in its services; nothing is said of any other key."""
    return {
        "$schema": DRAFT,
        "title": "x-mesh in a stack file",
        "type": "object",
        "properties": {
            "x-mesh": {"$ref": "#/$defs/root"},
            "services": {
                "type": "object",
                "additionalProperties": {
                    "type": ["object", "null"],
                    "properties": {"x-mesh": {"$ref": "#/$defs/service"}},
                },
            },
        },
        "$defs": {"root": _root(), "service": _service(), "routing": _routing()}
        | {kind: schema_of(kind) for kind in kinds()},
    }


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _routing() -> dict[str, Any]:
    plan = _nothing()
    limits = {
        key: schema_of_reader(lambda cursor, key=key: limits_of({key: cursor}))  # type: ignore[misc]
        for key in ("timeout", "retries")
    }
    route = schema_of_reader(lambda cursor: route_of(cursor, plan, {}))
    return _closed({**limits, "routes": {"type": "array", "items": route, "minItems": 1}})


def _service() -> dict[str, Any]:
    plan = _nothing()
    found: dict[str, Any] = dict.fromkeys(SERVICE_KEYS, _WORDS)
    found["servers"] = {
        "type": "array",
        "items": schema_of_reader(lambda cursor: server(cursor, is_document=False)),
    }
    for key in POLICY_KEYS:
        if key in ("allow", "deny"):
            reader = schema_of_reader(
                lambda cursor, key=key: access_rules(cursor, plan, denies=key == "deny")  # type: ignore[misc]
            )
            found[key] = {"anyOf": [{"type": "string"}, reader]}
        else:
            found[key] = {"$ref": f"#/$defs/routing/properties/{key}"}
    return _closed(found)


def _root() -> dict[str, Any]:
    found: dict[str, Any] = {key: {"type": "string"} for key in ROOT_KEYS}
    found |= {key: {"type": "boolean"} for key in ROOT_SWITCHES}
    text = {"type": ["string", "number"]}
    found[ENVIRONMENT_KEY] = {"type": "object", "patternProperties": {"^(MESHPY|OTEL)_": text}}
    found[ENVIRONMENT_KEY]["additionalProperties"] = False
    found["endpoint_mode"] = {"enum": ["vip", "dnsrr"]}
    routing = "#/$defs/routing"
    policies: dict[str, Any] = {
        "default_deny": {"type": "boolean"},
        "mtls": {"enum": list(MTLS_MODES)},
        "timeout": {"$ref": f"{routing}/properties/timeout"},
        "retries": {"$ref": f"{routing}/properties/retries"},
        "hosts": {"type": "object", "additionalProperties": {"$ref": routing}},
        "policies": {
            "type": "array",
            "items": {"anyOf": [{"$ref": f"#/$defs/{kind}"} for kind in kinds()]},
        },
    }
    return _closed({**found, **{key: policies[key] for key in ROOT_POLICY_KEYS}})


def _nothing() -> Plan:
    """A plan without a service: shapes do not depend on names."""
    return Plan(StackFile.parse("services: {}"), "stack", Settings(), (), "", "")
