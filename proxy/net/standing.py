"""How the hosts of a cluster stand: what tries came to, and what may be spent on more of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from meshpy.model.endpoint import Cluster
from meshpy.model.resilience import OutlierDetection
from proxy.cluster_stats import ClusterStats
from proxy.decide.outlier import Cause, Reply, judge_rates, record
from proxy.decide.retry import FULL_LUCK, Spending

if TYPE_CHECKING:
    from proxy.net.host import Host
    from proxy.net.pool import Surroundings

__all__ = ["Standing"]

_log = logging.getLogger("meshpy.proxy")

_FAILURE_S: Final = 1.0
"""What a try that failed is taken to have cost, so that a host which fails fast does not look quick."""


class Standing:
    """The half of an `Upstream` that judges.

    `counts_requests` is set where a retry budget has an interval.
    """

    __slots__ = (
        "_is_judged",
        "_rates_at",
        "active_requests",
        "active_retries",
        "cluster",
        "counts_requests",
        "hosts",
        "own",
        "spending",
        "stats",
    )

    cluster: Cluster
    hosts: list[Host]
    counts_requests: bool
    _is_judged: bool

    def __init__(self, own: Surroundings) -> None:
        self.own = own
        self.active_requests = 0
        self.active_retries = 0
        self.spending = Spending()
        self.stats = ClusterStats()
        self._rates_at = 0.0

    def refresh(self) -> None:
        """Work out anew who may be chosen: the health of a host has changed."""
        raise NotImplementedError

    # -- what became of tries

    def judge_status(self, host: Host, status: int, seconds: float) -> None:
        """A try was answered."""
        spending = self.spending
        if status >= 500:
            spending.on_bad_answer()
        elif spending.luck < FULL_LUCK:
            spending.luck += 1
        if self._is_judged:
            host.latency.observe(seconds, self.own.loop.time())
            outlier = self.cluster.outlier
            if outlier is not None:
                self._record(host, outlier, Reply.of_status(status, outlier.error_codes))

    def judge(self, host: Host, reply: Reply, *, is_sent: bool = False) -> None:
        """A try brought no answer that could be used.

        Args:
            is_sent: the application may have worked for it.
        """
        if is_sent:
            self.spending.on_bad_answer()
        if self._is_judged:
            host.latency.observe(_FAILURE_S, self.own.loop.time())
            outlier = self.cluster.outlier
            if outlier is not None:
                self._record(host, outlier, reply)

    def _record(self, host: Host, outlier: OutlierDetection, reply: Reply) -> None:
        now = self.own.loop.time()
        cause = record(host, self.hosts, outlier, reply, now)
        if cause is not None:
            self._on_ejected(host, cause, now)
        if (outlier.success_rate or outlier.failure_percentage) and now >= self._rates_at:
            for each, why in judge_rates(self.hosts, outlier, now) if self._rates_at else ():
                self._on_ejected(each, why, now)
            self._rates_at = now + outlier.interval_s

    def _on_ejected(self, host: Host, cause: Cause, now: float) -> None:
        self.refresh()
        self.stats.ejections[cause.value] = self.stats.ejections.get(cause.value, 0) + 1
        seconds = host.health.ejected_until - now
        what = "outlier detection: %s of %s is left out for %g s, %s (ejection %d of this host)"
        _log.warning(what, host.name, self.cluster.name, seconds, cause.value, host.health.ejections)

    # -- retries

    def count_request(self) -> None:
        """A request begins, where `counts_requests`."""
        self.spending.on_request(self.cluster.pool.retry_budget, self.own.loop.time())

    def begin_retry(self) -> None:
        """A retry begins."""
        self.stats.retries += 1
        if self.counts_requests:
            self.spending.on_retry(self.cluster.pool.retry_budget, self.own.loop.time())

    def may_retry(self, *, is_active: bool, is_sent: bool) -> bool:
        """Whether one more retry may run now.

        A try that was not sent cost the application nothing, so its repetition needs neither luck nor budget:
        when a node is lost, every request that met it goes to another.

        Args:
            is_active: who asks is counted among the active retries.
            is_sent: the application may have worked for the last try.
        """
        pool, stats = self.cluster.pool, self.stats
        others = self.active_retries - is_active
        if others >= pool.max_retries:
            stats.overflow["retries"] += 1
            return False
        if not is_sent:
            return True
        if self.spending.is_out_of_luck:
            stats.retries_throttled += 1
            return False
        now = self.own.loop.time()
        if not self.spending.is_within(pool.retry_budget, self.active_requests, others, now):
            stats.retries_over_budget += 1
            return False
        return True
