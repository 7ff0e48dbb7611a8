"""Counters of one cluster, and their metrics: health, breakers, retries."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from meshpy.model.metrics import Distribution, Family, Labels, MetricKind, numbers

if TYPE_CHECKING:
    from proxy.net.pool import Upstream

__all__ = ["ClusterStats", "families_of", "state_of"]


QUEUE_BOUNDS_MS = (1, 5, 25, 100, 500, 2500)


class ClusterStats:
    """Numbers that only grow; they live as long as the cluster is in the configuration."""

    __slots__ = (
        "connect_failures",
        "ejections",
        "health_checks",
        "overflow",
        "queue_counts",
        "queue_ms",
        "retries",
        "retries_over_budget",
        "retries_throttled",
    )

    def __init__(self) -> None:
        self.ejections: dict[str, int] = {}
        self.overflow = dict.fromkeys(("connections", "pending", "requests", "retries"), 0)
        self.health_checks = dict.fromkeys(("success", "failure"), 0)
        self.queue_counts = [0] * (len(QUEUE_BOUNDS_MS) + 1)
        self.queue_ms = 0.0
        self.connect_failures = 0
        self.retries = 0
        self.retries_over_budget = 0
        self.retries_throttled = 0

    def waited(self, seconds: float) -> None:
        """Count a request that had to wait for its connection: to be made, or to become free."""
        self.queue_counts[bisect_left(QUEUE_BOUNDS_MS, seconds * 1000)] += 1
        self.queue_ms += seconds * 1000


def state_of(upstream: Upstream, now: float) -> dict[str, object]:
    """A cluster and its hosts, as the admin server shows them."""
    stats = upstream.stats
    return {
        "active_requests": upstream.active_requests,
        "active_retries": upstream.active_retries,
        "connections": upstream.connections,
        "pending": upstream.pending,
        "retries_throttled": upstream.spending.is_out_of_luck,
        "overflow": stats.overflow,
        "ejections": stats.ejections,
        "hosts": [
            {
                "address": host.name,
                "node": host.endpoint.node,
                "active": host.active,
                "idle": len(host.idle),
                "ejected": host.health.ejected_until > now,
                "ejected_for_s": round(max(0.0, host.health.ejected_until - now), 1),
                "ejections": host.health.ejections,
                "failing_checks": host.health.is_failing,
            }
            for host in upstream.hosts
        ],
    }


_COUNTERS = (
    ("outlier_ejections_total", "detector", "ejections", "Hosts that were ejected."),
    ("circuit_breaker_overflow_total", "limit", "overflow", "Requests and connections above a limit."),
    ("health_checks_total", "result", "health_checks", "Health checks by result."),
)
_PLAIN = (
    ("upstream_connect_failures_total", "connect_failures", "Connections that could not be made."),
    ("upstream_retries_total", "retries", "Tries beyond the first."),
    ("retries_over_budget_total", "retries_over_budget", "Tries that the budget did not allow."),
    ("retries_throttled_total", "retries_throttled", "Tries that the throttle did not allow."),
)


def families_of(live: Mapping[str, Upstream], now: float) -> Iterator[Family]:
    """The label `cluster` is bounded by the configuration, hosts are no label."""
    clusters = list(live.items())
    for metric, label, field, text in _COUNTERS:
        counts = [
            ((("cluster", name), (label, value)), count)
            for name, upstream in clusters
            for value, count in getattr(upstream.stats, field).items()
            if count
        ]
        yield numbers(f"meshpy_{metric}", MetricKind.COUNTER, text, counts)
    for metric, field, text in _PLAIN:
        plain = [
            ((("cluster", name),), count)
            for name, upstream in clusters
            if (count := getattr(upstream.stats, field))
        ]
        yield numbers(f"meshpy_{metric}", MetricKind.COUNTER, text, plain)
    queued = [
        Distribution(
            (("cluster", name),), QUEUE_BOUNDS_MS, tuple(each.stats.queue_counts), each.stats.queue_ms
        )
        for name, each in clusters
        if any(each.stats.queue_counts)
    ]
    text = "How long requests waited for a connection; those that found one idle are not counted."
    yield Family("meshpy_queue_time_milliseconds", MetricKind.HISTOGRAM, text, queued, "ms")
    yield numbers("meshpy_cluster_hosts", MetricKind.GAUGE, "Endpoints by health.", _hosts(clusters, now))


def _hosts(clusters: list[tuple[str, Upstream]], now: float) -> Iterator[tuple[Labels, float]]:
    for name, upstream in clusters:
        states = {
            "all": len(upstream.hosts),
            "ejected": sum(host.health.ejected_until > now for host in upstream.hosts),
            "failing": sum(host.health.is_failing for host in upstream.hosts),
        }
        for state, count in states.items():
            yield (("cluster", name), ("state", state)), count
