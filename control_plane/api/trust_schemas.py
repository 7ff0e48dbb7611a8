"""JSON schemas of certificates and tokens: what the operator API says of trust."""

from __future__ import annotations

from control_plane.api.json_schema import COUNT, ROLE, TEXT, closed, list_of, or_null, record
from control_plane.api.texts import SERVICE, line

__all__ = [
    "BUNDLE",
    "CA",
    "CA_ADVANCE",
    "CA_EXPORT",
    "CA_EXPORTED",
    "CA_NEXT",
    "CA_REQUESTED",
    "CA_ROTATION",
    "DENIED",
    "NEW_TOKEN",
    "OPERATOR_TOKEN",
    "OPERATOR_TOKENS",
    "REVOKED",
    "TOKEN",
    "TOKEN_LIST",
    "TOKEN_WANTED",
]

_CERTIFICATE = record(
    {"fingerprint": TEXT, "subject": TEXT, "serial": TEXT, "not_before": TEXT, "not_after": TEXT}
)
CA = record(
    {
        "trust_domain": TEXT,
        "signer": TEXT,
        "phase": TEXT,
        "roots": list_of(_CERTIFICATE),
        "intermediate": _CERTIFICATE,
        "leaf_ttl_s": COUNT,
        "audit": record({"records": COUNT, "head": TEXT, "broken_at": COUNT}),
        "issued": COUNT,
        "refused": COUNT,
    }
)
CA_ROTATION = record(
    {
        "phase": {"enum": ["steady", "trusting", "issuing"]},
        "state": COUNT,
        "bundle": TEXT,
        "root": TEXT,
        "other": or_null(TEXT),
        "retired": list_of(TEXT),
        "has_request": {"type": "boolean"},
        "ready": COUNT,
        "expected": COUNT,
        "waiting_for": list_of(record({"name": TEXT, "why": TEXT})),
    }
)
CA_REQUESTED = record({"csr": TEXT})
CA_NEXT = closed(
    {"root": TEXT, "chain": TEXT, "key": TEXT, "passphrase": TEXT}, optional=("key", "passphrase")
)
CA_ADVANCE = closed({"from": TEXT, "force": list_of(TEXT)}, optional=("force",))
CA_EXPORT = closed({"passphrase": {"type": "string", "minLength": 12}})
CA_EXPORTED = record({"trust_domain": TEXT, "root": TEXT, "chain": TEXT, "key": TEXT})
DENIED = record({"denied": list_of(record({"service": TEXT, "message": TEXT}))})
BUNDLE = record({"trust_domain": TEXT, "pem": TEXT, "fingerprints": list_of(TEXT)})
TOKEN_WANTED = closed(
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
TOKEN = record(
    {
        "token": TEXT,
        "service": TEXT,
        "id": TEXT,
        "once": {"type": "boolean"},
        "expires": or_null(TEXT),
    }
)
_TOKEN_SHOWN = record(
    {
        "id": TEXT,
        "service": TEXT,
        "state": {"enum": ["valid", "used", "expired", "revoked"]},
        "once": {"type": "boolean"},
        "created": TEXT,
        "author": TEXT,
        "expires": or_null(TEXT),
        "used_at": or_null(TEXT),
        "used_by": or_null(TEXT),
    }
)
TOKEN_LIST = record({"tokens": list_of(_TOKEN_SHOWN)})
_TOKEN_KEPT = {"id": TEXT, "name": TEXT, "role": ROLE, "created": TEXT, "expires": TEXT, "author": TEXT}
OPERATOR_TOKEN = record({**_TOKEN_KEPT, "token": TEXT})
OPERATOR_TOKENS = record({"tokens": list_of(record(_TOKEN_KEPT))})
NEW_TOKEN = closed(
    {
        "name": line(1, 100),
        "role": ROLE,
        "ttl_s": {"type": "integer", "minimum": 60, "maximum": 366 * 24 * 3600, "default": 90 * 24 * 3600},
    },
    optional=("ttl_s",),
)
REVOKED = record({"revoked": TEXT})
