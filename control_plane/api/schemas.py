"""JSON schemas of policies, services, sidecars and traffic, as the operator API takes and gives them."""

from __future__ import annotations

from control_plane.api.json_schema import COUNT, NUMBER, TEXT, Schema, closed, list_of, or_null, record
from control_plane.api.texts import line, prose

__all__ = [
    "APPLIED",
    "CALLEE",
    "DIFFED",
    "DOCUMENTS",
    "EXPLAINED",
    "FINDING",
    "FLOW",
    "FLOWS",
    "HEALTH",
    "INVENTORY",
    "JAEGER",
    "PINNED",
    "POLICIES",
    "PROBLEM",
    "REPLICA",
    "REVISION_LIST",
    "ROLLOUT",
    "RULE",
    "SERVICE_DETAIL",
    "SIDECARS",
    "SIDECAR_CONFIG",
    "STATUS",
    "WAITED",
]

FINDING = record(
    {"file": TEXT, "line": COUNT, "column": COUNT, "key": TEXT, "message": TEXT, "instead": TEXT}
)
PROBLEM = record(
    {
        "type": TEXT,
        "title": TEXT,
        "status": COUNT,
        "detail": TEXT,
        "errors": list_of(FINDING),
        "newest": COUNT,
        "evidence": TEXT,
        "lagging": list_of(TEXT),
    },
    optional=("errors", "newest", "evidence", "lagging"),
)
_PERCENT: Schema = {"type": "number", "default": 5, "minimum": 0, "maximum": 100}
DOCUMENTS = closed(
    {
        "documents": list_of(
            closed({"name": line(1, 512), "text": TEXT, "namespace": TEXT}, optional=("namespace",))
        ),
        "expected_revision": or_null(COUNT),
        "default_namespace": {"type": "string", "default": "default"},
        "message": prose(1_000),
        "rollout": {
            **closed(
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
DIFFED = closed(
    {
        "documents": list_of(closed({"name": TEXT, "text": TEXT})),
        "message": {**TEXT, "description": "of the change, which this is not yet"},
        "prune": {"type": "boolean", "default": False, "description": "they are the whole set"},
        "default_namespace": {"type": "string", "default": "default"},
    },
    optional=("message", "prune", "default_namespace"),
)
EXPLAINED = closed(
    {
        "source": TEXT,
        "destination": {"type": "string", "description": "HOST or HOST:PORT"},
        "method": TEXT,
        "path": TEXT,
        "headers": {**list_of(TEXT), "description": "`name: value`"},
        "namespace": {"type": "string", "default": "default"},
    },
    optional=("headers", "namespace"),
)
APPLIED = record(
    {
        "revision": COUNT,
        "dry_run": {"type": "boolean"},
        "changed_services": COUNT,
        "warnings": list_of(FINDING),
    }
)
POLICIES = record(
    {
        "revision": COUNT,
        "created": TEXT,
        "author": TEXT,
        "message": TEXT,
        "documents": list_of(record({"name": TEXT, "text": TEXT, "namespace": TEXT, "line": COUNT})),
    }
)
REVISION_LIST = record(
    {
        "revisions": list_of(
            record(
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
        "next": {**or_null(COUNT), "description": "`before` of the next page; null: this was the last"},
    }
)
PINNED = record({"revision": COUNT, "pinned": {"type": "boolean"}})
JAEGER = record(
    {"data": {}, "total": COUNT, "limit": COUNT, "offset": COUNT, "errors": {"type": ["array", "null"]}}
)
SERVICE_DETAIL = record(
    {
        "service": TEXT,
        "exempt": TEXT,
        "labels": {"type": "object", "additionalProperties": TEXT},
        "ports": list_of(
            record(
                {
                    "number": COUNT,
                    "protocol": TEXT,
                    "published": {"type": "boolean"},
                    "proxy_protocol": {"type": "boolean"},
                }
            )
        ),
        "hosts": list_of(TEXT),
        "networks": list_of(TEXT),
        "endpoints": list_of(record({"address": TEXT, "port": COUNT, "node": TEXT})),
        "snapshot": {"type": ["object", "null"], "description": "what its sidecars get"},
    }
)
_FIGURES = record({"requests": COUNT, "denied": COUNT, "errors": COUNT})
_ROLLOUT = record(
    {
        "revision": COUNT,
        "author": TEXT,
        "message": TEXT,
        "phase": {"enum": ["WATCHING", "HELD", "PROMOTED", "KEPT", "ROLLED_BACK", "ABORTED"]},
        "reason": TEXT,
        "canary": or_null(TEXT),
        "canaries": list_of(record({"service": TEXT, "task": TEXT})),
        "services": list_of(TEXT),
        "remaining_s": NUMBER,
        "bounds": record({"denied_pct": NUMBER, "error_pct": NUMBER}),
        "seen": _FIGURES,
        "without": _FIGURES,
    }
)
ROLLOUT = record(
    {"rollout": {**_ROLLOUT, "type": ["object", "null"], "description": "null: none since the start"}}
)
WAITED = record(
    {
        "revision": COUNT,
        "enforced": {"type": "boolean"},
        "waited_ms": NUMBER,
        "waiting_for": list_of(record({"service": TEXT, "task": TEXT, "reason": TEXT})),
    }
)
HEALTH = record({"status": TEXT})
_COUNTS: Schema = {"type": "object", "additionalProperties": COUNT}
INVENTORY = record({"revision": COUNT, "trust_domain": TEXT, "inventory": {"type": "object"}})
_SIDECAR = record(
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
        "held_s": or_null(NUMBER),
        "certificate_not_before": TEXT,
        "certificate_not_after": TEXT,
        "certificate_serial": TEXT,
    }
)
_SILENT: Schema = {**list_of(TEXT), "description": "replicas that did not answer: what they hold is not here"}
SIDECARS = record({"sidecars": list_of(_SIDECAR), "next": or_null(TEXT), "silent": _SILENT})
SIDECAR_CONFIG = record(
    {
        "sidecar": _SIDECAR,
        "snapshot": {"type": ["object", "null"], "description": "null: what it holds is not known here"},
        "trust_domain": TEXT,
        "roots": list_of(TEXT),
    }
)
REPLICA = record({"replica": TEXT, "sidecars": list_of(_SIDECAR), "traffic": {"type": "array"}})
STATUS = record(
    {
        "meshpy": {**TEXT, "description": "the version of the control plane"},
        "revision": COUNT,
        "trust_domain": TEXT,
        "problems": {
            **list_of(TEXT),
            "description": "why the snapshots in force are older than the inventory",
        },
        "discovery": record(
            {
                "source": TEXT,
                "problem": TEXT,
                "failures": COUNT,
                "age_s": or_null(NUMBER),
                "unread": {
                    **list_of(TEXT),
                    "description": "of which services labels cannot be read, and why",
                },
            }
        ),
        "issuers": {
            **list_of(
                record({"uri": TEXT, "keys": COUNT, "fetched_at": TEXT, "failures": COUNT, "error": TEXT})
            ),
            "description": "whence the keys of token issuers are fetched, and how that goes",
        },
        "services": list_of(
            record({"name": TEXT, "endpoints": COUNT, "sidecars": COUNT, "synced": COUNT, "exempt": TEXT})
        ),
        "sidecars": list_of(_SIDECAR),
        "edges": list_of(
            record(
                {
                    "source": TEXT,
                    "destination": TEXT,
                    "protocol": TEXT,
                    "rps": NUMBER,
                    "success_ratio": NUMBER,
                    "window_success_ratio": NUMBER,
                    "p50_ms": or_null(NUMBER),
                    "p99_ms": or_null(NUMBER),
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
FLOW = record(
    {"source": TEXT, "port": COUNT, "method": TEXT, "path": TEXT, "requests": COUNT}
    | {"first_s": NUMBER, "last_s": NUMBER}
)
CALLEE = record(
    {"service": TEXT, "since_s": NUMBER, "watched_s": NUMBER, "lost": COUNT, "flows": list_of(FLOW)}
)
RULE = record({"policy": TEXT, "rule": TEXT, "requests": COUNT, "last_s": NUMBER})
FLOWS = record(
    {
        "now_s": NUMBER,
        "since_s": NUMBER,
        "callees": list_of(CALLEE),
        "rules": list_of(RULE),
        "silent": _SILENT,
    }
)
