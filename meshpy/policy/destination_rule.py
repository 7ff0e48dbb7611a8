"""Istio DestinationRule. Source: istio.io/latest/docs/reference/config/networking/destination-rule."""

from __future__ import annotations

import re

from meshpy.model.resilience import ConnectionPool, LoadBalancing, OutlierDetection, RetryBudget
from meshpy.policy.kinds import DestinationRuleDoc, HostRef, Meta, SubsetDoc, TrafficPolicy
from meshpy.policy.reader import NOT_YET, Cursor, Fields, Refusal
from meshpy.policy.strings import host_ref
from meshpy.policy.virtual_service import export_is_private

__all__ = ["destination_rule"]

_SUBSET_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_UINT32 = 2**32 - 1
_SETTINGS = ("loadBalancer", "connectionPool", "outlierDetection", "tls")
_POLICY_REFUSED = {"tunnel": NOT_YET, "proxyProtocol": NOT_YET}


def destination_rule(meta: Meta, spec: Cursor) -> DestinationRuleDoc:
    """Read `spec`."""
    fields = spec.fields(("host", "exportTo", "trafficPolicy", "subsets"), {"workloadSelector": NOT_YET})
    at_host, at_policy = fields.required("host", "host: my-service"), fields.get("trafficPolicy")
    subsets: dict[str, SubsetDoc] = {}
    for item in fields.items("subsets"):
        subset = _subset(item)
        if subset.name in subsets:
            item.problem(f"the subset {subset.name!r} is written twice", "remove one of them")
        subsets[subset.name] = subset
    return DestinationRuleDoc(
        meta,
        host_ref(at_host) if at_host is not None else HostRef("", spec.place),
        _traffic_policy(at_policy) if at_policy is not None else None,
        tuple(subsets.values()),
        export_is_private(fields),
    )


def _subset(cursor: Cursor) -> SubsetDoc:
    fields = cursor.fields(("name", "labels", "trafficPolicy"))
    at_name, at_policy = fields.required("name", "name: v1"), fields.get("trafficPolicy")
    name = at_name.text() if at_name is not None else ""
    if at_name is not None and not _SUBSET_NAME.fullmatch(name):
        at_name.problem(f"{name!r} is no subset name", "write letters, digits, - and . such as v1")
    policy = _traffic_policy(at_policy) if at_policy is not None else TrafficPolicy()
    return SubsetDoc(name, cursor.place, fields.labels("labels"), policy)


def _traffic_policy(cursor: Cursor) -> TrafficPolicy:
    fields = cursor.fields((*_SETTINGS, "portLevelSettings", "retryBudget"), _POLICY_REFUSED)
    ports: dict[int, TrafficPolicy] = {}
    for item in fields.items("portLevelSettings"):
        inner = item.fields((*_SETTINGS, "port"))
        at_port = inner.required("port", "port: {number: 80}")
        number = at_port.fields(("number",)).required("number", "number: 80") if at_port is not None else None
        if number is None:
            continue
        port = number.integer(1, 65535)
        if port in ports:
            number.problem(f"port {port} has settings twice", "merge them")
        ports[port] = _settings(inner, None)
    return _settings(fields, fields.get("retryBudget"), ports)


def _settings(
    fields: Fields, budget: Cursor | None, ports: dict[int, TrafficPolicy] | None = None
) -> TrafficPolicy:
    balancer, pool, outlier = (
        fields.get("loadBalancer"),
        fields.get("connectionPool"),
        fields.get("outlierDetection"),
    )
    if (tls := fields.get("tls")) is not None:
        _check_tls(tls)
    retry_budget = _retry_budget(budget) if budget is not None else RetryBudget()
    return TrafficPolicy(
        _load_balancing(balancer) if balancer is not None else None,
        _pool(pool, retry_budget) if pool is not None or budget is not None else None,
        _outlier(outlier) if outlier is not None else None,
        ports or {},
    )


def _load_balancing(cursor: Cursor) -> LoadBalancing | None:
    refused = dict.fromkeys(
        ("consistentHash", "localityLbSetting", "zoneAwareLbSetting", "warmup", "warmupDurationSecs"), NOT_YET
    )
    simple = cursor.fields(("simple",), refused).get("simple")
    if simple is None:
        return None
    value = simple.text()
    if value == "LEAST_CONN":  # Istio's deprecated name of the same algorithm
        return LoadBalancing.LEAST_REQUEST
    if value in ("PASSTHROUGH", "UNSPECIFIED"):
        simple.problem(f"{value} is not supported yet by meshpy", "write LEAST_REQUEST")
        return None
    return LoadBalancing(value) if simple.choice(tuple(LoadBalancing)) in tuple(LoadBalancing) else None


_TCP_KNOWN = ("maxConnections", "connectTimeout", "tcpKeepalive", "maxConnectionDuration", "idleTimeout")
_HTTP_KNOWN = (
    "http1MaxPendingRequests",
    "http2MaxRequests",
    "maxRequestsPerConnection",
    "maxRetries",
    "idleTimeout",
)
_HTTP_REFUSED = dict.fromkeys(
    ("h2UpgradePolicy", "useClientProtocol", "maxConcurrentStreams", "http2KeepAlive"), NOT_YET
)


def _known(
    fields: Fields, name: str, known: tuple[str, ...], refused: dict[str, Refusal] | None = None
) -> Fields:
    cursor = fields.get(name)
    return Fields(fields.at, {}) if cursor is None else cursor.fields(known, refused)


def _pool(cursor: Cursor | None, budget: RetryBudget) -> ConnectionPool:
    default = ConnectionPool(retry_budget=budget)
    if cursor is None:
        return default
    fields = cursor.fields(("tcp", "http"))
    tcp = _known(fields, "tcp", _TCP_KNOWN)
    http = _known(fields, "http", _HTTP_KNOWN, _HTTP_REFUSED)
    keepalive = tcp.get("tcpKeepalive")
    keepalive_s = None
    if keepalive is not None:
        keepalive_s = keepalive.fields(("time",), {"probes": NOT_YET, "interval": NOT_YET}).duration(
            "time", 1
        )
    idle_s = http.duration("idleTimeout", 0.001) or tcp.duration("idleTimeout", 0.001)
    requests_each = http.integer("maxRequestsPerConnection", 0, 2**31 - 1)
    return ConnectionPool(
        max_connections=tcp.integer("maxConnections", 1, _UINT32) or default.max_connections,
        connect_timeout_s=tcp.duration("connectTimeout", 0.001) or default.connect_timeout_s,
        idle_timeout_s=idle_s or default.idle_timeout_s,
        keepalive_time_s=keepalive_s or default.keepalive_time_s,
        max_connection_duration_s=tcp.duration("maxConnectionDuration", 0.001),
        max_pending_requests=http.integer("http1MaxPendingRequests", 1, _UINT32)
        or default.max_pending_requests,
        max_requests=http.integer("http2MaxRequests", 1, _UINT32) or default.max_requests,
        max_requests_per_connection=requests_each or 0,
        max_retries=_or(http.integer("maxRetries", 0, _UINT32), default.max_retries),
        retry_budget=budget,
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _retry_budget(cursor: Cursor) -> RetryBudget:
    fields = cursor.fields(("percent", "minRetryConcurrency"), {"budgetInterval": NOT_YET})
    percent = fields.get("percent")
    return RetryBudget(
        percent.number(0, 100) if percent is not None else RetryBudget().percent,
        _or(fields.integer("minRetryConcurrency", 0, _UINT32), RetryBudget().min_concurrency),
    )


def _outlier(cursor: Cursor) -> OutlierDetection:
    known = (
        "consecutive5xxErrors",
        "consecutiveGatewayErrors",
        "splitExternalLocalOriginErrors",
        "consecutiveLocalOriginFailures",
        "interval",
        "baseEjectionTime",
        "maxEjectionPercent",
        "minHealthPercent",
    )
    refused = {
        "consecutiveErrors": ("is Istio's old form", "write consecutiveGatewayErrors:"),
        "outlierDetectionHttpErrorCodes": NOT_YET,
    }
    fields = cursor.fields(known, refused)
    default = OutlierDetection()
    split = fields.boolean("splitExternalLocalOriginErrors")
    if "consecutiveLocalOriginFailures" in fields and not split:
        cursor.problem(
            "`consecutiveLocalOriginFailures` has no effect alone",
            "write splitExternalLocalOriginErrors: true",
        )
    return OutlierDetection(
        consecutive_5xx=_or(fields.integer("consecutive5xxErrors", 0, _UINT32), default.consecutive_5xx),
        consecutive_gateway_errors=fields.integer("consecutiveGatewayErrors", 0, _UINT32) or 0,
        split_local_origin=split,
        consecutive_local_origin=_or(
            fields.integer("consecutiveLocalOriginFailures", 0, _UINT32), default.consecutive_local_origin
        ),
        interval_s=fields.duration("interval", 0.001) or default.interval_s,
        base_ejection_s=fields.duration("baseEjectionTime", 0.001) or default.base_ejection_s,
        max_ejection_pct=_or(fields.integer("maxEjectionPercent", 0, 100), default.max_ejection_pct),
        min_health_pct=_or(fields.integer("minHealthPercent", 0, 100), default.min_health_pct),
    )


def _check_tls(cursor: Cursor) -> None:
    """Between sidecars mTLS is always on, so only `ISTIO_MUTUAL` says what is true."""
    refused = dict.fromkeys(
        (
            "clientCertificate",
            "privateKey",
            "caCertificates",
            "credentialName",
            "subjectAltNames",
            "sni",
            "insecureSkipVerify",
            "caCrl",
        ),
        ("is not supported yet by meshpy", "remove it: the mesh's own certificates are used"),
    )
    mode = cursor.fields(("mode",), refused).get("mode")
    if mode is None:
        return
    value = mode.text()
    if value in ("DISABLE", "SIMPLE", "MUTUAL"):
        what = f"{value} is not supported: sidecars speak mTLS with the mesh's certificates to each other"
        mode.problem(what, "write ISTIO_MUTUAL, or remove `tls`")
    else:
        mode.choice(("ISTIO_MUTUAL",))
