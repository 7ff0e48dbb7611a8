"""Which exchanges are logged, and in which shape: Envoy's keys (the default), ECS, or logfmt for Loki.

Envoy's shape is composed by `report`, which is tuned for it; the others cost about 10 µs a line.
Sources: Elastic Common Schema 8.11; grafana.com/docs/loki (logfmt).
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from proxy.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Exchange
    from proxy.recent import Seen

__all__ = [
    "ECS_VERSION",
    "LogOptions",
    "LogShape",
    "ecs_line",
    "end_point",
    "logfmt",
    "logfmt_line",
    "without_empty",
]

_MAX_TEXT = 2048
ECS_VERSION = "8.11.0"
_VERSIONS = ("1.0", "1.1", "2")


class LogShape(StrEnum):
    ENVOY = "envoy"
    ECS = "ecs"
    LOKI = "loki"


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Args:
    kept_pct: of requests that are neither errors nor denied; 0 logs errors only.
    is_redacted: queries are logged without their values.
    """

    shape: LogShape = LogShape.ENVOY
    kept_pct: float = 100.0
    is_redacted: bool = True

    def keeps(self, exchange: Exchange) -> bool:
        """Whether an exchange is logged. Both ends of a trace draw alike, by its id."""
        if self.kept_pct >= 100 or exchange.status >= 400 or not exchange.status or exchange.flags != "-":
            return True
        if exchange.grpc is not None and exchange.grpc.status:  # gRPC fails with 200
            return True
        trace = exchange.trace
        if not trace:
            return self.draws(exchange.request_id, is_odd=False)
        return int(trace[11:19], 16) < self._kept_below

    def draws(self, identity: Hashable, *, is_odd: bool) -> bool:
        """Whether something is logged that no trace tells of; what is odd always."""
        return self.kept_pct >= 100 or is_odd or hash(identity) & 0xFFFFFFFF < self._kept_below

    @property
    def _kept_below(self) -> float:
        return self.kept_pct / 100 * 2**32


def _facts(seen: Seen, exchange: Exchange, options: LogOptions) -> dict[str, Any]:
    """What both shapes tell, by names of ours."""
    head, key, reply, call = exchange.head, seen.edge.key, seen.reply, seen.call
    query = head.query.encode("latin-1", "replace") if head.query else b""
    agent, forwarded = head.fields.get(b"user-agent"), head.fields.get(b"x-forwarded-for")
    return {
        "source": key.source,
        "destination": key.destination or key.service,
        "direction": key.direction,
        "protocol": key.protocol,
        "mtls": key.is_mtls,
        "query": (redacted(query) if options.is_redacted else query).decode("latin-1"),
        "agent": agent.decode("latin-1")[:_MAX_TEXT] if agent else "",
        "forwarded": forwarded.decode("latin-1")[:_MAX_TEXT] if forwarded else "",
        "verdict": seen.verdict,
        "grpc_status": "" if call is None or call.status is None else call.status,
        "policy": seen.policy,
        "rule": reply.rule if reply is not None else "",
        "stage": reply.stage if reply is not None else "",
    }


if TYPE_CHECKING:
    Shape = Callable[[str, Seen, Exchange, Mapping[str, str], LogOptions], bytes]
    """When it began, what was seen, the connection's ends, what is kept → a line."""


def ecs_line(
    started: str,
    seen: Seen,
    exchange: Exchange,
    ends: Mapping[str, str],
    options: LogOptions,
) -> bytes:
    """One line of Elastic Common Schema.

    Args:
        ends: `peer`, `local`, `principal` and `server_name` of the connection.
    """
    facts = _facts(seen, exchange, options)
    outcome = "failure" if facts["verdict"] in ("DENIED", "ERROR") else "success"
    kind = ["access", "denied"] if facts["verdict"] == "DENIED" else ["access"]
    namespace, _, service = facts["destination"].rpartition("/")
    domain = end_point(seen.authority)
    client = facts["forwarded"].split(",")[0].strip() or ends["peer"]
    line = {
        "@timestamp": started,
        "ecs": {"version": ECS_VERSION},
        "message": f"{seen.method} {seen.path} {seen.status}",
        "log": {"level": "error" if facts["verdict"] == "ERROR" else "info"},
        "event": {
            "kind": "event", "dataset": "meshpy.access", "category": ["network", "web"], "type": kind,
            "outcome": outcome, "duration": int(seen.took_s * 1e9), "action": facts["verdict"].lower(),
        },
        "http": {
            "version": _VERSIONS[seen.minor],
            "request": {"method": seen.method, "id": exchange.request_id.decode("latin-1")[:_MAX_TEXT],
                        "body": {"bytes": seen.bytes_received}},
            "response": {"status_code": seen.status, "body": {"bytes": seen.bytes_sent}},
        },
        "url": {"path": seen.path, "query": facts["query"][:_MAX_TEXT], "domain": domain["address"],
                "port": domain.get("port", "")},
        "source": end_point(ends["peer"]),
        "destination": end_point(seen.host.name if seen.host is not None else ends["local"]),
        "client": end_point(client),
        "user_agent": {"original": facts["agent"]},
        "network": {"direction": facts["direction"], "protocol": facts["protocol"], "transport": "tcp"},
        "service": {"name": service or facts["destination"], "namespace": namespace},
        "trace": {"id": seen.trace[3:35].decode("latin-1")},
        "span": {"id": seen.trace[36:52].decode("latin-1")},
        "user": {"id": ends["principal"]},
        "rule": {"name": facts["rule"], "ruleset": facts["policy"], "category": facts["stage"]},
        "meshpy": {
            "source": facts["source"], "destination": facts["destination"], "mtls": facts["mtls"],
            "response_flags": seen.flags, "response_code_details": exchange.details,
            "grpc_status": facts["grpc_status"], "attempts": seen.attempts,
            "route": seen.route, "requested_server_name": ends["server_name"],
        },
    }  # fmt: skip
    return json.dumps(without_empty(line), separators=(",", ":")).encode() + b"\n"


@lru_cache(maxsize=1024)
def end_point(text: str) -> Mapping[str, Any]:
    """`10.0.0.7:8080` as ECS has it: `address`, `ip` where it is one, and `port`."""
    host, colon, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and colon):
        host, port = text, ""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:  # an IPv6 address without brackets has no port
        host, port = text, ""
    try:
        ip = str(ip_address(host))
    except ValueError:
        ip = ""
    return {"address": host, "ip": ip, **({"port": int(port)} if port else {})}


def without_empty(value: dict[str, Any]) -> dict[str, Any]:
    """ECS has no empty texts: a field that says nothing is not there."""
    found = {
        key: without_empty(each) if isinstance(each, dict) else each
        for key, each in value.items()
        if each != ""
    }
    return {key: each for key, each in found.items() if each != {}}


def logfmt_line(
    started: str,
    seen: Seen,
    exchange: Exchange,
    ends: Mapping[str, str],
    options: LogOptions,
) -> bytes:
    """One line of logfmt; the first fields are few in values, fit for labels."""
    facts = _facts(seen, exchange, options)
    target = f"{seen.path}?{facts['query']}" if facts["query"] else seen.path
    pairs = (
        ("ts", started),
        ("level", "error" if facts["verdict"] == "ERROR" else "info"),
        ("direction", facts["direction"]), ("source", facts["source"]), ("destination", facts["destination"]),
        ("verdict", facts["verdict"]), ("protocol", facts["protocol"]), ("mtls", str(facts["mtls"]).lower()),
        ("method", seen.method), ("path", target), ("authority", seen.authority), ("status", seen.status),
        ("grpc_status", facts["grpc_status"]),
        ("flags", seen.flags), ("details", exchange.details), ("duration_ms", f"{seen.took_s * 1000:.3f}"),
        ("bytes_received", seen.bytes_received), ("bytes_sent", seen.bytes_sent), ("attempts", seen.attempts),
        ("route", seen.route), ("upstream", seen.host.name if seen.host is not None else ""),
        ("peer", ends["peer"]), ("principal", ends["principal"]), ("policy", facts["policy"]),
        ("rule", facts["rule"]), ("stage", facts["stage"]),
        ("request_id", exchange.request_id.decode("latin-1")[:_MAX_TEXT]),
        ("trace_id", seen.trace[3:35].decode("latin-1")), ("user_agent", facts["agent"]),
    )  # fmt: skip
    return logfmt(pairs)


def logfmt(pairs: Iterable[tuple[str, object]]) -> bytes:
    """A line of what is not empty."""
    return " ".join(f"{key}={_word(str(value))}" for key, value in pairs if value != "").encode() + b"\n"


def _word(text: str) -> str:
    """A bare word, or a quoted one; strangers write no line and no field of their own."""
    is_bare = text.isascii() and text.isprintable() and not any(c in text for c in ' "=\\')
    return text if is_bare else json.dumps(text)
