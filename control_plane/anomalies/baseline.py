"""The usual traffic of one edge, and how far a window of ten seconds is from it. Pure: time is an argument.

Rates, error ratios and the share of slow requests are remembered as exponentially weighted means over about
ten minutes. A window is unusual when chance alone would bring it less than once in some hundred thousand:
bounds of the binomial and Poisson distributions at Z standard deviations, over so many requests at least, in
several windows one after the other.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["IN_A_ROW", "EdgeBaseline", "Finding", "Window"]

Z = 5.0
Z_SLOWER = 3.0
MEMORY_WINDOWS = 60
"""An exponentially weighted mean over so many windows."""
MIN_WINDOWS = 6
"""So many windows with traffic make a baseline."""
MIN_REQUESTS = 20
MIN_ERRORS = 5
MIN_DENIED = 10
IN_A_ROW = 3
SILENT_WINDOWS = 6
MIN_RATE = 10.0
"""Requests a window of an edge whose silence or change of rate is told."""
RATE_FACTOR = 4.0
SLOW_FACTOR, SLOWER_FACTOR = 4.0, 2.0
ADOPT_WINDOWS = 60
"""What stays unusual for ten minutes is the new usual."""


class Window(NamedTuple):
    """Ten seconds of an edge. Args: slow: by bucket, requests; bounds as in the histogram."""

    requests: int
    errors: int
    denied: int
    bounds_ms: tuple[float, ...]
    counts: tuple[int, ...]


class Finding(NamedTuple):
    """One thing about a window: `kind` of an Event, and the figures."""

    kind: str
    evidence: dict[str, float]


@dataclass(slots=True)
class EdgeBaseline:
    """Args:
    unusual: by kind, for how many windows in a row.
    seen_s: when it last had traffic, in seconds since the epoch.
    """

    windows: int = 0
    rate: float = 0.0
    errors: float = 0.0
    denied: float = 0.0
    slow_bound_ms: float = 0.0
    slow: float = 0.0
    seen_s: float = 0.0
    unusual: dict[str, int] = field(default_factory=dict)
    _histogram: dict[float, float] = field(default_factory=dict)

    @property
    def is_learned(self) -> bool:
        return self.windows >= MIN_WINDOWS

    def judges_latency(self, window: Window) -> bool:
        """Whether a window has enough of requests, and what is usual is known, to tell slow from quick."""
        is_known = self.is_learned and bool(self.slow_bound_ms) and bool(window.bounds_ms)
        return is_known and window.requests >= MIN_REQUESTS

    def is_slower(self, window: Window) -> bool:
        """Whether a window is slower than usual at all, for which no edge is told of."""
        share = self._slow_share(window)
        return share > SLOWER_FACTOR * self.slow and _is_beyond(share, self.slow, window.requests, Z_SLOWER)

    def _slow_share(self, window: Window) -> float:
        """How many of its requests were slower than nearly all are."""
        above = window.counts[bisect_left(window.bounds_ms, self.slow_bound_ms) + 1 :]
        return sum(above) / window.requests

    def to_row(self) -> list[Any]:
        """What is usual, as it is kept; for how long something has been unusual is not."""
        histogram = [[bound, share] for bound, share in self._histogram.items() if bound != math.inf]
        beyond = self._histogram.get(math.inf, 0.0)
        return [self.windows, self.rate, self.errors, self.denied, self.seen_s, beyond, histogram]

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> EdgeBaseline:
        """Raises ValueError or TypeError for what is no row."""
        windows, rate, errors, denied, seen_s, beyond, histogram = row
        shares = {float(bound): float(share) for bound, share in histogram}
        if shares:
            shares[math.inf] = float(beyond)
        found = cls(int(windows), float(rate), float(errors), float(denied), seen_s=float(seen_s))
        found._histogram = shares
        found._set_slow_bound()
        return found

    def see(self, window: Window, *, learns: bool) -> list[Finding]:
        """Judge a window by what is usual, then learn from it.

        Args:
            learns: nothing is unusual while the mesh is being learned.

        Returns:
            What has been unusual for long enough.
        """
        found = [] if learns or not self.is_learned else self._judge(window)
        kinds = {finding.kind for finding in found}
        told = []
        for kind in [each for each in self.unusual if each not in kinds]:
            del self.unusual[kind]
        for finding in found:
            self.unusual[finding.kind] = self.unusual.get(finding.kind, 0) + 1
            if self.unusual[finding.kind] >= _needed(finding.kind):
                told.append(finding)
        # What is unusual is not learned, until it has been so for long.
        if not self.unusual or max(self.unusual.values()) > ADOPT_WINDOWS:
            self._learn(window)
        return told

    def _judge(self, window: Window) -> list[Finding]:
        found = []
        n = window.requests
        if window.denied >= MIN_DENIED and window.denied > self.denied + Z * math.sqrt(self.denied + 1):
            evidence = {"expected": round(self.denied, 2), "observed": window.denied, "requests": n}
            found.append(Finding("denied_burst", evidence))
        if n >= MIN_REQUESTS:
            found += self._shifts(window, n)
        if self.rate >= MIN_RATE:
            found += self._rates(n)
        return found

    def _shifts(self, window: Window, n: int) -> list[Finding]:
        found = []
        ratio = window.errors / n
        if (
            window.errors >= MIN_ERRORS
            and ratio > 2 * self.errors + 0.01
            and _is_beyond(ratio, self.errors, n)
        ):
            figures = {"expected": round(self.errors, 5), "observed": round(ratio, 5), "requests": n}
            found.append(Finding("error_shift", figures))
        if self.slow_bound_ms and window.bounds_ms:
            share = self._slow_share(window)
            if share > max(SLOW_FACTOR * self.slow, 0.25) and _is_beyond(share, self.slow, n):
                figures = {"slower_than_ms": self.slow_bound_ms, "expected": round(self.slow, 5),
                           "observed": round(share, 5), "requests": n}  # fmt: skip
                found.append(Finding("latency_shift", figures))
        return found

    def _rates(self, n: int) -> list[Finding]:
        figures = {"expected": round(self.rate, 2), "observed": n}
        if not n:
            return [Finding("silent", figures)]
        spread = Z * math.sqrt(self.rate)
        if n > RATE_FACTOR * self.rate and n > self.rate + spread:
            return [Finding("rate_shift", figures)]
        if n < self.rate / RATE_FACTOR and n < self.rate - spread:
            return [Finding("rate_shift", figures)]
        return []

    def _learn(self, window: Window) -> None:
        n = window.requests
        if not n and not window.denied and not self.windows:
            return
        self.windows = min(self.windows + 1, 1_000_000)
        weight = max(1 / self.windows, 1 / MEMORY_WINDOWS)
        self.rate += weight * (n - self.rate)
        self.denied += weight * (window.denied - self.denied)
        if not n:
            return
        self.errors += weight * (window.errors / n - self.errors)
        for bound, count in zip((*window.bounds_ms, math.inf), window.counts, strict=True):
            held = self._histogram.get(bound, 0.0)
            self._histogram[bound] = held + weight * (count / n - held)
        self._set_slow_bound()

    def _set_slow_bound(self) -> None:
        """The first bound that at most one request in twenty is slower than, and how many are."""
        above = 1.0
        for bound in sorted(self._histogram):
            above -= self._histogram[bound]
            if above <= 0.05 or bound == math.inf:
                self.slow_bound_ms = bound if bound != math.inf else 0.0
                self.slow = max(0.0, above)
                return


def _needed(kind: str) -> int:
    """A burst of denials is told at once; what may be a hiccup must last."""
    return {"denied_burst": 1, "silent": SILENT_WINDOWS}.get(kind, IN_A_ROW)


def _is_beyond(ratio: float, usual: float, n: int, z: float = Z) -> bool:
    """Whether chance alone hardly brings so high a ratio; a usual ratio of 0 counts as one in n more."""
    p = min(0.5, max(usual, 1 / (n + 1000)))
    return ratio > p + z * math.sqrt(p * (1 - p) / n)
