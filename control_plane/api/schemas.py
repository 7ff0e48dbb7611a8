"""JSON schemas of the operator API (OpenAPI 3.1 uses JSON Schema 2020-12)."""

from __future__ import annotations

from typing import Any

from control_plane.api.texts import SERVICE, line, prose

__all__ = [
    "APPLIED",
    "BUNDLE",
    "CA",
    "CA_ADVANCE",
    "CA_EXPORT",
    "CA_EXPORTED",
    "CA_NEXT",
    "CA_REQUESTED",
    "CA_ROTATION",
    "DENIED",
    "DIFFED",
    "DOCUMENTS",
    "EXPLAINED",
    "FLOWS",
    "HEALTH",
    "JAEGER",
    "NEW_TOKEN",
    "OPERATOR_TOKEN",
    "OPERATOR_TOKENS",
    "PINNED",
    "POLICIES",
    "PROBLEM",
    "REPLICA",
    "REVISION_LIST",
    "REVOKED",
    "ROLLOUT",
    "SERVICE_DETAIL",
    "SIDECARS",
    "SIDECAR_CONFIG",
    "STATUS",
    "TOKEN",
    "TOKEN_LIST",
    "TOKEN_WANTED",
    "WAITED",
]

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
ROLE: Schema = {"enum": ["viewer", "editor", "admin"]}


def _object(members: Schema, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in members if name not in optional]
    return {"type": "object", "properties": members, "required": required}


def _closed(members: Schema, optional: tuple[str, ...] = ()) -> Schema:
    """As requests have it: what is not known is refused."""
    return {**_object(members, optional), "additionalProperties": False}


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


FINDING = _object(
    {"file": TEXT, "line": COUNT, "column": COUNT, "key": TEXT, "message": TEXT, "instead": TEXT}
)
PROBLEM = _object(
    {
        "type": TEXT,
        "title": TEXT,
        "status": COUNT,
        "detail": TEXT,
        "errors": _list(FINDING),
        "newest": COUNT,
        "evidence": TEXT,
        "lagging": _list(TEXT),
    },
    optional=("errors", "newest", "evidence", "lagging"),
)
_PERCENT: Schema = {"type": "number", "default": 5, "minimum": 0, "maximum": 100}
DOCUMENTS = _closed(
    {
        "documents": _list(
            _closed({"name": line(1, 512), "text": TEXT, "namespace": TEXT}, optional=("namespace",))
        ),
        "expected_revision": _or_null(COUNT),
        "default_namespace": {"type": "string", "default": "default"},
        "message": prose(1_000),
        "rollout": {
            **_closed(
                {
                    "canary": {
                        "type": ["string", "null"],
                        "pattern": "^([1-9][0-9]{0,5}|([1-9][0-9]?|100)%)$",
                        "description": 'replicas, "1", or a share, "25%"',
                    },
                    "watch_s": {"type": "number", "default": 60, "minimum": 1, "maximum": 24 * 3600},
                    "max_denied_pct": _PERCENT,
                    "max_error_pct": _PERCENT,
                    "hold": {"type": "boolean", "default": False, "description": "goes with `canary`"},
                },
                optional=("canary", "watch_s", "max_denied_pct", "max_error_pct", "hold"),
            ),
            "if": {"properties": {"hold": {"const": True}}, "required": ["hold"]},
            "then": {"properties": {"canary": {"type": "string"}}, "required": ["canary"]},
        },
    },
    optional=("expected_revision", "default_namespace", "message", "rollout"),
)
DIFFED = _closed(
    {
        "documents": _list(_closed({"name": TEXT, "text": TEXT})),
        "message": {**TEXT, "description": "of the change, which this is not yet"},
        "prune": {"type": "boolean", "default": False, "description": "they are the whole set"},
        "default_namespace": {"type": "string", "default": "default"},
    },
    optional=("message", "prune", "default_namespace"),
)
EXPLAINED = _closed(
    {
        "source": TEXT,
        "destination": {"type": "string", "description": "HOST or HOST:PORT"},
        "method": TEXT,
        "path": TEXT,
        "headers": {**_list(TEXT), "description": "`name: value`"},
        "namespace": {"type": "string", "default": "default"},
    },
    optional=("headers", "namespace"),
)
APPLIED = _object(
    {"revision": COUNT, "dry_run": {"type": "boolean"}, "changed_services": COUNT, "warnings": _list(FINDING)}
)
POLICIES = _object(
    {
        "revision": COUNT,
        "created": TEXT,
        "author": TEXT,
        "message": TEXT,
        "documents": _list(_object({"name": TEXT, "text": TEXT, "namespace": TEXT, "line": COUNT})),
    }
)
REVISION_LIST = _object(
    {
        "revisions": _list(
            _object(
                {
                    "revision": COUNT,
                    "created": TEXT,
                    "author": TEXT,
                    "message": TEXT,
                    "documents": COUNT,
                    "pinned": {"type": "boolean"},
                }
            )
        ),
        "next": {**_or_null(COUNT), "description": "`before` of the next page; null: this was the last"},
    }
)
PINNED = _object({"revision": COUNT, "pinned": {"type": "boolean"}})
_CERTIFICATE = _object(
    {"fingerprint": TEXT, "subject": TEXT, "serial": TEXT, "not_before": TEXT, "not_after": TEXT}
)
CA = _object(
    {
        "trust_domain": TEXT,
        "signer": TEXT,
        "phase": TEXT,
        "roots": _list(_CERTIFICATE),
        "intermediate": _CERTIFICATE,
        "leaf_ttl_s": COUNT,
        "audit": _object({"records": COUNT, "head": TEXT, "broken_at": COUNT}),
        "issued": COUNT,
        "refused": COUNT,
    }
)
CA_ROTATION = _object(
    {
        "phase": {"enum": ["steady", "trusting", "issuing"]},
        "state": COUNT,
        "bundle": TEXT,
        "root": TEXT,
        "other": _or_null(TEXT),
        "retired": _list(TEXT),
        "has_request": {"type": "boolean"},
        "ready": COUNT,
        "expected": COUNT,
        "waiting_for": _list(_object({"name": TEXT, "why": TEXT})),
    }
)
CA_REQUESTED = _object({"csr": TEXT})
CA_NEXT = _closed(
    {"root": TEXT, "chain": TEXT, "key": TEXT, "passphrase": TEXT}, optional=("key", "passphrase")
)
CA_ADVANCE = _closed({"from": TEXT, "force": _list(TEXT)}, optional=("force",))
CA_EXPORT = _closed({"passphrase": {"type": "string", "minLength": 12}})
CA_EXPORTED = _object({"trust_domain": TEXT, "root": TEXT, "chain": TEXT, "key": TEXT})
DENIED = _object({"denied": _list(_object({"service": TEXT, "message": TEXT}))})
JAEGER = _object(
    {"data": {}, "total": COUNT, "limit": COUNT, "offset": COUNT, "errors": {"type": ["array", "null"]}}
)
SERVICE_DETAIL = _object(
    {
        "service": TEXT,
        "exempt": TEXT,
        "labels": {"type": "object", "additionalProperties": TEXT},
        "ports": _list(
            _object(
                {
                    "number": COUNT,
                    "protocol": TEXT,
                    "published": {"type": "boolean"},
                    "proxy_protocol": {"type": "boolean"},
                }
            )
        ),
        "hosts": _list(TEXT),
        "networks": _list(TEXT),
        "endpoints": _list(_object({"address": TEXT, "port": COUNT, "node": TEXT})),
        "snapshot": {"type": ["object", "null"], "description": "what its sidecars get"},
    }
)
_FIGURES = _object({"requests": COUNT, "denied": COUNT, "errors": COUNT})
_ROLLOUT = _object(
    {
        "revision": COUNT,
        "author": TEXT,
        "message": TEXT,
        "phase": {"enum": ["WATCHING", "HELD", "PROMOTED", "KEPT", "ROLLED_BACK", "ABORTED"]},
        "reason": TEXT,
        "canary": _or_null(TEXT),
        "canaries": _list(_object({"service": TEXT, "task": TEXT})),
        "services": _list(TEXT),
        "remaining_s": NUMBER,
        "bounds": _object({"denied_pct": NUMBER, "error_pct": NUMBER}),
        "seen": _FIGURES,
        "without": _FIGURES,
    }
)
ROLLOUT = _object(
    {"rollout": {**_ROLLOUT, "type": ["object", "null"], "description": "null: none since the start"}}
)
WAITED = _object(
    {
        "revision": COUNT,
        "enforced": {"type": "boolean"},
        "waited_ms": NUMBER,
        "waiting_for": _list(_object({"service": TEXT, "task": TEXT, "reason": TEXT})),
    }
)
BUNDLE = _object({"trust_domain": TEXT, "pem": TEXT, "fingerprints": _list(TEXT)})
TOKEN_WANTED = _closed(
    {
        "service": SERVICE,
        "once": {"type": "boolean", "description": "for one certificate, outside the Swarm"},
        "ttl_s": {
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": 2_592_000,
            "description": "null: it does not end",
        },
        "address": {
            "anyOf": [
                {"const": ""},
                {"type": "string", "format": "ipv4"},
                {"type": "string", "format": "ipv6"},
            ],
            "description": "the only IP address it may be used from",
        },
    },
    optional=("once", "ttl_s", "address"),
)
TOKEN = _object(
    {
        "token": TEXT,
        "service": TEXT,
        "id": TEXT,
        "once": {"type": "boolean"},
        "expires": _or_null(TEXT),
    }
)
_TOKEN_SHOWN = _object(
    {
        "id": TEXT,
        "service": TEXT,
        "state": {"enum": ["valid", "used", "expired", "revoked"]},
        "once": {"type": "boolean"},
        "created": TEXT,
        "author": TEXT,
        "expires": _or_null(TEXT),
        "used_at": _or_null(TEXT),
        "used_by": _or_null(TEXT),
    }
)
TOKEN_LIST = _object({"tokens": _list(_TOKEN_SHOWN)})
HEALTH = _object({"status": TEXT})
_TOKEN_KEPT = {"id": TEXT, "name": TEXT, "role": ROLE, "created": TEXT, "ends": TEXT, "by": TEXT}
OPERATOR_TOKEN = _object({**_TOKEN_KEPT, "token": TEXT})
OPERATOR_TOKENS = _object({"tokens": _list(_object(_TOKEN_KEPT))})
NEW_TOKEN = _closed(
    {
        "name": line(1, 100),
        "role": ROLE,
        "ttl_s": {"type": "integer", "minimum": 60, "maximum": 366 * 24 * 3600, "default": 90 * 24 * 3600},
    },
    optional=("ttl_s",),
)
REVOKED = _object({"revoked": TEXT})
_COUNTS: Schema = {"type": "object", "additionalProperties": COUNT}
INVENTORY = _object({"revision": COUNT, "trust_domain": TEXT, "inventory": {"type": "object"}})
_SIDECAR = _object(
    {
        "service": TEXT,
        "task": TEXT,
        "node": TEXT,
        "replica": {**TEXT, "description": "of the control plane, that it is connected to"},
        "address": TEXT,
        "meshpy": TEXT,
        "state": TEXT,
        "version": TEXT,
        "held": TEXT,
        "revision": COUNT,
        "canary": {"type": "boolean"},
        "reason": TEXT,
        "has_app": {"type": ["boolean", "null"], "description": "whether it found its app; null: not said"},
        "held_s": _or_null(NUMBER),
        "certificate_not_before": TEXT,
        "certificate_not_after": TEXT,
        "certificate_serial": TEXT,
    }
)
_SILENT: Schema = {**_list(TEXT), "description": "replicas that did not answer: what they hold is not here"}
SIDECARS = _object({"sidecars": _list(_SIDECAR), "next": _or_null(TEXT), "silent": _SILENT})
SIDECAR_CONFIG = _object(
    {
        "sidecar": _SIDECAR,
        "snapshot": {"type": ["object", "null"], "description": "null: what it holds is not known here"},
        "trust_domain": TEXT,
        "roots": _list(TEXT),
    }
)
REPLICA = _object({"replica": TEXT, "sidecars": _list(_SIDECAR), "traffic": {"type": "array"}})
STATUS = _object(
    {
        "meshpy": {**TEXT, "description": "the version of the control plane"},
        "revision": COUNT,
        "trust_domain": TEXT,
        "problems": {**_list(TEXT), "description": "why the snapshots in force are older than the inventory"},
        "discovery": _object({"source": TEXT, "problem": TEXT, "failures": COUNT, "age_s": _or_null(NUMBER)}),
        "issuers": {
            **_list(
                _object({"uri": TEXT, "keys": COUNT, "fetched_at": TEXT, "failures": COUNT, "error": TEXT})
            ),
            "description": "whence the keys of token issuers are fetched, and how that goes",
        },
        "services": _list(
            _object({"name": TEXT, "endpoints": COUNT, "sidecars": COUNT, "synced": COUNT, "exempt": TEXT})
        ),
        "sidecars": _list(_SIDECAR),
        "edges": _list(
            _object(
                {
                    "source": TEXT,
                    "destination": TEXT,
                    "protocol": TEXT,
                    "rps": NUMBER,
                    "success_ratio": NUMBER,
                    "window_success_ratio": NUMBER,
                    "p50_ms": _or_null(NUMBER),
                    "p99_ms": _or_null(NUMBER),
                    "mtls_ratio": NUMBER,
                    "requests": COUNT,
                    "denied": _COUNTS,
                    "retries": COUNT,
                    "recovered_by_retry": COUNT,
                    "responses": _COUNTS,
                    "connections": COUNT,
                    "bytes_sent": COUNT,
                    "bytes_received": COUNT,
                }
            )
        ),
    }
)

FLOW = _object(
    {"source": TEXT, "port": COUNT, "method": TEXT, "path": TEXT, "requests": COUNT}
    | {"first_s": NUMBER, "last_s": NUMBER}
)
CALLEE = _object(
    {"service": TEXT, "since_s": NUMBER, "watched_s": NUMBER, "lost": COUNT, "flows": _list(FLOW)}
)
RULE = _object({"policy": TEXT, "rule": TEXT, "requests": COUNT, "last_s": NUMBER})
FLOWS = _object(
    {
        "now_s": NUMBER,
        "since_s": NUMBER,
        "callees": _list(CALLEE),
        "rules": _list(RULE),
        "silent": _SILENT,
    }
)
