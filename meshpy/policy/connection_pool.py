"""DestinationRule `connectionPool` and `retryBudget`. Source: Istio ConnectionPoolSettings, RetryBudget."""

from __future__ import annotations

from meshpy.model.resilience import ConnectionPool, RetryBudget
from meshpy.policy.reader import NOT_YET, Cursor, Fields, Refusal

__all__ = ["connection_pool", "or_default", "retry_budget"]

UINT32 = 2**32 - 1
_TCP_KNOWN = ("maxConnections", "connectTimeout", "tcpKeepalive", "maxConnectionDuration", "idleTimeout")
_HTTP_KNOWN = (
    "http1MaxPendingRequests",
    "http2MaxRequests",
    "maxRequestsPerConnection",
    "maxRetries",
    "idleTimeout",
    "streamIdleTimeout",
    "h2UpgradePolicy",
    "useClientProtocol",
    "maxConcurrentStreams",
)
_HTTP_REFUSED: dict[str, Refusal] = {
    "http2KeepAlive": (NOT_YET[0], "write tcp.tcpKeepalive:, which finds dead peers of any protocol"),
}
_UPGRADES = ("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE")


def or_default(value: int | None, default: int) -> int:
    """A value that may be 0, or the default where none was written."""
    return default if value is None else value


def _known(
    fields: Fields, name: str, known: tuple[str, ...], refused: dict[str, Refusal] | None = None
) -> Fields:
    cursor = fields.get(name)
    return Fields(fields.at, {}) if cursor is None else cursor.fields(known, refused)


def connection_pool(cursor: Cursor | None, budget: RetryBudget) -> ConnectionPool:
    """Read `connectionPool`; None is one that was not written."""
    default = ConnectionPool(retry_budget=budget)
    if cursor is None:
        return default
    fields = cursor.fields(("tcp", "http"))
    tcp = _known(fields, "tcp", _TCP_KNOWN)
    http = _known(fields, "http", _HTTP_KNOWN, _HTTP_REFUSED)
    keepalive = _known(tcp, "tcpKeepalive", ("time", "interval", "probes"))
    requests_each = http.integer("maxRequestsPerConnection", 0, 2**31 - 1)
    stream_idle_s = http.duration("streamIdleTimeout")
    connect_s = tcp.duration("connectTimeout", 0.001)
    return ConnectionPool(
        max_connections=tcp.integer("maxConnections", 1, UINT32) or default.max_connections,
        connect_timeout_s=connect_s or default.connect_timeout_s,
        handshake_timeout_s=connect_s or default.handshake_timeout_s,
        idle_timeout_s=http.duration("idleTimeout", 0.001) or default.idle_timeout_s,
        tunnel_idle_timeout_s=tcp.duration("idleTimeout") or None,
        stream_idle_timeout_s=default.stream_idle_timeout_s if stream_idle_s is None else stream_idle_s,
        keepalive_time_s=keepalive.duration("time", 1) or default.keepalive_time_s,
        keepalive_interval_s=keepalive.duration("interval", 1) or default.keepalive_interval_s,
        keepalive_probes=keepalive.integer("probes", 1, 127) or default.keepalive_probes,
        max_connection_duration_s=tcp.duration("maxConnectionDuration", 0.001),
        max_pending_requests=http.integer("http1MaxPendingRequests", 1, UINT32)
        or default.max_pending_requests,
        max_requests=http.integer("http2MaxRequests", 1, UINT32) or default.max_requests,
        max_requests_per_connection=requests_each or 0,
        max_retries=or_default(http.integer("maxRetries", 0, UINT32), default.max_retries),
        retry_budget=budget,
        max_concurrent_streams=http.integer("maxConcurrentStreams", 1, 2**31 - 1)
        or default.max_concurrent_streams,
        h2_upgrade=_is_upgraded(http),
        use_client_protocol=http.boolean("useClientProtocol"),
    )


def _is_upgraded(http: Fields) -> bool:
    """`h2UpgradePolicy`: the mesh's default is not to upgrade. The client's protocol wins, as in Istio."""
    policy = http.get("h2UpgradePolicy")
    if policy is None or policy.choice(_UPGRADES) != "UPGRADE":
        return False
    if http.boolean("useClientProtocol"):
        policy.problem("h2UpgradePolicy has no effect with useClientProtocol: true", "write one of the two")
    return True


def retry_budget(cursor: Cursor) -> RetryBudget:
    """Read `retryBudget`."""
    fields = cursor.fields(("percent", "minRetryConcurrency", "budgetInterval"))
    percent, default = fields.get("percent"), RetryBudget()
    return RetryBudget(
        percent.number(0, 100) if percent is not None else default.percent,
        or_default(fields.integer("minRetryConcurrency", 0, UINT32), default.min_concurrency),
        fields.duration("budgetInterval") or 0.0,
    )
