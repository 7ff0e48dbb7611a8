"""Resilience: balancing, timeouts, retries, pools, health. Seconds and counts; defaults are Istio's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "DEFAULT_RETRY",
    "CheckProtocol",
    "ConnectionPool",
    "ConsistentHash",
    "FailurePercentage",
    "HashBy",
    "HashTable",
    "HealthCheck",
    "LoadBalancing",
    "Locality",
    "LocalityShares",
    "OutlierDetection",
    "RetryBudget",
    "RetryOn",
    "RetryPolicy",
    "SuccessRate",
    "Warmup",
]

UNLIMITED = 2**32 - 1
"""Envoy's and Istio's 'off' for a circuit-breaker limit."""


class LoadBalancing(StrEnum):
    """Istio's words for `simple`, and Linkerd's balancer under the name that it has in the field."""

    LEAST_REQUEST = "LEAST_REQUEST"
    PEAK_EWMA = "PEAK_EWMA"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"


class HashBy(StrEnum):
    """What of a request decides which endpoint it belongs to."""

    HEADER = "header"
    COOKIE = "cookie"
    SOURCE_IP = "source-ip"
    QUERY = "query"


class HashTable(StrEnum):
    RING_HASH = "ring-hash"
    MAGLEV = "maglev"


@dataclass(frozen=True, slots=True)
class ConsistentHash:
    """Requests with the same key go to the same endpoint, and keep to it when others come and go.

    Args:
        name: of the header (lower case), cookie or query parameter.
        path, ttl_s, attributes: of a cookie that is set where there is none; `ttl_s` None sets none, 0 makes
            it end with the browser's session.
        size: the least number of points of a ring; the number of slots of a Maglev table, a prime.
    """

    by: HashBy
    name: str = ""
    path: str = ""
    ttl_s: float | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    table: HashTable = HashTable.RING_HASH
    size: int = 1024


@dataclass(frozen=True, slots=True)
class LocalityShares:
    """Where callers of `origin` send: shares in percent by locality; each may end in `*`."""

    origin: str
    shares: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Locality:
    """Istio `localityLbSetting`. Localities are `region/zone/subzone` of the node that a task runs on.

    Without `distribute` the nearest endpoints are taken as long as they are healthy.

    Args:
        failover: region → the region that comes next, before all others.
        priority: topology labels, `key` or `key=value`; the more of the first ones agree the nearer.
    """

    distribute: tuple[LocalityShares, ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    priority: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Warmup:
    """An endpoint that joins gets a growing share for `duration_s`, `minimum_pct` of its own at first."""

    duration_s: float
    minimum_pct: float = 10.0
    aggression: float = 1.0


class RetryOn(StrEnum):
    """Envoy's and Istio's words for `retryOn`."""

    SERVER_ERROR = "5xx"
    GATEWAY_ERROR = "gateway-error"
    RESET = "reset"
    RESET_BEFORE_REQUEST = "reset-before-request"
    CONNECT_FAILURE = "connect-failure"
    REFUSED_STREAM = "refused-stream"
    RETRIABLE_4XX = "retriable-4xx"
    RETRIABLE_STATUS_CODES = "retriable-status-codes"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline-exceeded"
    INTERNAL = "internal"
    RESOURCE_EXHAUSTED = "resource-exhausted"
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "envoy-ratelimited"


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """At most `percent` of the active requests of a cluster may be retries, and always `min_concurrency`.

    With an interval the requests and retries begun within it are counted, not those that are active.
    """

    percent: float = 20.0
    min_concurrency: int = 3
    interval_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` counts retries: at most 1 + attempts requests are sent.

    A request with a method that is not idempotent is never sent again once a byte of it reached the wire,
    whatever `on` says; THREATS M5.
    """

    attempts: int = 2
    per_try_timeout_s: float | None = None
    on: frozenset[RetryOn] = frozenset(
        {
            RetryOn.CONNECT_FAILURE,
            RetryOn.REFUSED_STREAM,
            RetryOn.UNAVAILABLE,
            RetryOn.CANCELLED,
            RetryOn.RETRIABLE_STATUS_CODES,
        }
    )
    status_codes: frozenset[int] = frozenset()
    backoff_s: float = 0.025
    ignore_previous_hosts: bool = True
    remote_localities: bool = False


DEFAULT_RETRY = RetryPolicy()
"""Istio's mesh default: 2 attempts on connection-level failures."""


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """Limits and time limits of a cluster.

    Args:
        connect_timeout_s: of the TCP connection; the peer's kernel makes it, for a starved process too.
        handshake_timeout_s: of the TLS handshake after it, for which the peer needs CPU.
        idle_timeout_s: of a pooled HTTP connection.
        tunnel_idle_timeout_s: of an opaque connection; None never ends one for being idle.
        stream_idle_timeout_s: of an exchange on which no byte moves; 0 is no limit.
        max_concurrent_streams: on one HTTP/2 connection; the upstream's own limit holds besides.
        h2_upgrade: speak HTTP/2 to sidecars in front of ports declared `http` (`h2UpgradePolicy: UPGRADE`).
        use_client_protocol: speak to the upstream what the client speaks to us.
    """

    max_connections: int = UNLIMITED
    connect_timeout_s: float = 2.0
    handshake_timeout_s: float = 10.0
    idle_timeout_s: float = 600.0
    tunnel_idle_timeout_s: float | None = None
    stream_idle_timeout_s: float = 0.0
    keepalive_time_s: float = 300.0
    keepalive_interval_s: float = 30.0
    keepalive_probes: int = 4
    max_connection_duration_s: float | None = None
    max_pending_requests: int = UNLIMITED
    max_requests: int = UNLIMITED
    max_requests_per_connection: int = 0
    max_concurrent_streams: int = UNLIMITED
    h2_upgrade: bool = False
    use_client_protocol: bool = False
    max_retries: int = UNLIMITED
    retry_budget: RetryBudget = RetryBudget()


@dataclass(frozen=True, slots=True)
class SuccessRate:
    """Leaves out hosts whose success rate is `stdev_factor` standard deviations below the mean (Envoy).

    Judged every interval over hosts with `request_volume` requests in it, if there are `minimum_hosts`.
    """

    minimum_hosts: int = 5
    request_volume: int = 100
    stdev_factor: float = 1.9


@dataclass(frozen=True, slots=True)
class FailurePercentage:
    """Leaves out hosts of whose requests within an interval `threshold_pct` or more failed (Envoy)."""

    threshold_pct: float = 85.0
    minimum_hosts: int = 5
    request_volume: int = 50


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """Istio's defaults; a field of 0 turns that detector off.

    Args:
        error_codes: the statuses that are errors, instead of all of 500 and above.
    """

    consecutive_5xx: int = 5
    consecutive_gateway_errors: int = 0
    split_local_origin: bool = False
    consecutive_local_origin: int = 5
    interval_s: float = 10.0
    base_ejection_s: float = 30.0
    max_ejection_pct: int = 10
    min_health_pct: int = 0
    error_codes: frozenset[int] = frozenset()
    success_rate: SuccessRate | None = None
    failure_percentage: FailurePercentage | None = None


class CheckProtocol(StrEnum):
    HTTP = "http"
    TCP = "tcp"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Active health checks of each endpoint by each caller; the defaults are Kuma's.

    Args:
        unhealthy_threshold, healthy_threshold: so many results in a row change the endpoint's state.
        path, statuses: of an HTTP check.
        service: the name that a gRPC check asks for; empty is the whole server.
        panic_pct: below this share of healthy endpoints all are used.
    """

    protocol: CheckProtocol
    interval_s: float = 60.0
    timeout_s: float = 15.0
    unhealthy_threshold: int = 5
    healthy_threshold: int = 1
    path: str = "/"
    statuses: frozenset[int] = frozenset({200})
    service: str = ""
    panic_pct: float = 50.0
