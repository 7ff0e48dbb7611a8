"""The watch: every ten seconds each edge's window is held against its baseline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from control_plane.anomalies.baseline import IN_A_ROW, EdgeBaseline, Finding, Window
from control_plane.anomalies.event import Events, Kind
from control_plane.anomalies.paths import PathClasses, read_classes
from control_plane.telemetry import Telemetry
from control_plane.traffic import WINDOW_S, EdgeKey
from meshpy.model.names import ServiceName

__all__ = ["DEFAULT_LEARNING_S", "Watch"]

DEFAULT_LEARNING_S = 600.0
MAX_EDGES = 10_000
SCAN_PATHS, SCAN_S = 20, 600.0
SETTLE_S = 60.0
"""After a restart sidecars come back one by one; so long nothing is judged, and nothing learned."""
FORGET_S = 14 * 86_400.0
"""An edge without traffic for so long is new when it comes again."""
SLOW_EDGES, SLOW_SHARE = 3, 0.75
"""Of so many edges at least so large a share is slow at once: the machine or the network, not each of it.

Where they are slower than usual at all, but few so much that they would be told of, an edge is not told of
whose callee waits for another: in a chain of calls the first waits for all, and is the first to be slow.
"""
_AT_A_TIME = 200
_EDGE_KINDS = (Kind.DENIED_BURST, Kind.ERROR_SHIFT, Kind.LATENCY_SHIFT, Kind.RATE_SHIFT)
_WORDS = {
    Kind.DENIED_BURST: "{observed} requests were denied in {seconds} s, {expected} are usual",
    Kind.ERROR_SHIFT: "{observed:.1%} of {requests} requests failed, {expected:.1%} is usual",
    Kind.LATENCY_SHIFT: "{observed:.0%} of {requests} requests took longer than {slower_than_ms:g} ms, "
    "{expected:.0%} is usual",
    Kind.RATE_SHIFT: "{observed} requests in {seconds} s, {expected:.0f} are usual",
}


class Watch:
    """Args:
    learning_s: for so long after the start everything is usual; 0 watches nothing.
    clock: seconds since the epoch.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        learning_s: float = DEFAULT_LEARNING_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._telemetry, self._clock = telemetry, clock
        self.is_on = learning_s > 0
        self.learns_until = clock() + learning_s
        self._settles_until = 0.0
        self.events = Events()
        self._edges: dict[EdgeKey, EdgeBaseline] = {}
        self._sources: set[str] = set()
        self._silent: dict[str, int] = {}
        self._slow_windows = self._hushed = 0
        self._waiting: dict[str, int] = {}
        self.paths = PathClasses()
        self._told_paths: dict[str, tuple[float, int]] = {}
        self.unwatched = 0

    @property
    def now_s(self) -> float:
        """Of the clock that events are dated by."""
        return self._clock()

    @property
    def learns(self) -> bool:
        return self._clock() < self.learns_until

    def state(self) -> dict[str, Any]:
        """What was learned and told, as `resume` takes it; what is long gone is forgotten."""
        now = self._clock()
        for key in [key for key, each in self._edges.items() if now - each.seen_s > FORGET_S]:
            del self._edges[key]
        return {
            "learning_left_s": max(0.0, self.learns_until - now),
            "edges": [
                [key.source, key.destination, key.protocol, *each.to_row()]
                for key, each in self._edges.items()
            ],
            "sources": list(self._sources),
            "paths": self.paths.to_rows(),
            "events": [event.to_json() for event in self.events.after(0)],
        }

    def resume(self, kept: Mapping[str, Any]) -> None:
        """Go on from a `state`.

        Raises:
            KeyError, TypeError, ValueError: it is none; nothing of it is taken.
        """
        now = self._clock()
        edges = {
            EdgeKey(str(source), str(destination), str(protocol)): EdgeBaseline.of_row(row)
            for source, destination, protocol, *row in kept["edges"][:MAX_EDGES]
        }
        left_s = float(kept["learning_left_s"])
        sources = {str(each) for each in kept["sources"][:MAX_EDGES]}
        paths = PathClasses()
        paths.resume(kept["paths"])
        self.events.resume(kept["events"], now)
        self.paths, self._edges, self._sources = paths, edges, sources
        self.learns_until = min(self.learns_until, now + left_s)
        self._settles_until = now + SETTLE_S

    def summary(self) -> dict[str, Any]:
        """What is known."""
        return {
            "on": self.is_on,
            "learning_until": self.learns_until if self.learns else None,
            "edges": len(self._edges),
            "path_classes": self.paths.count(),
            "identities": len(self._sources),
        }

    async def run(self) -> None:
        """Look at every window, until cancelled."""
        while self.is_on:
            await asyncio.sleep(WINDOW_S)
            await self.look(time.monotonic())

    async def look(self, now_s: float) -> None:
        """Judge the window that ends now; between some edges the loop may go on."""
        if self._clock() < self._settles_until:
            return
        windows = self._telemetry.windows(now_s)
        active: dict[str, int] = {}
        seen = []
        for number, (key, window) in enumerate(windows):
            if number % _AT_A_TIME == _AT_A_TIME - 1:
                await asyncio.sleep(0)
            active[key.destination] = active.get(key.destination, 0) + window.requests
            findings = self._see(key, window)
            if findings is not None:
                seen.append((key, window, findings))
        is_slow = self._see_slow([(key, window) for key, window, _ in seen])
        for key, _, findings in seen:
            self._tell(key, findings, is_slow=is_slow or key.destination in self._waiting)
        self._see_silent(active)

    def _see(self, key: EdgeKey, window: Window) -> dict[Kind, Finding] | None:
        """Hold a window against what is usual; None of an edge that is not watched."""
        baseline = self._edges.get(key)
        if baseline is None:
            if not window.requests and not window.denied:
                return None
            if len(self._edges) >= MAX_EDGES:
                self.unwatched += 1
                return None
            baseline = self._edges[key] = EdgeBaseline()
            self._see_edge(key, window)
        if window.requests or window.denied:
            baseline.seen_s = self._clock()
        found = baseline.see(window, learns=self.learns)
        return {Kind(each.kind): each for each in found if each.kind != "silent"}

    def _see_slow(self, windows: Sequence[tuple[EdgeKey, Window]]) -> bool:
        """Whether nearly all edges are slow at once, which is told as one event in the place of many."""
        judged = [(key, window) for key, window in windows if self._edges[key].judges_latency(window)]
        slow = [key for key, _ in judged if Kind.LATENCY_SHIFT in self._edges[key].unusual]
        slower = [key for key, window in judged if self._edges[key].is_slower(window)]
        least = max(SLOW_EDGES, SLOW_SHARE * len(judged))
        is_slow = len(slow) >= least
        self._slow_windows = self._slow_windows + 1 if is_slow else 0
        self._hushed = IN_A_ROW if is_slow else max(0, self._hushed - 1)  # not all end in the same window
        self._waiting = {name: left - 1 for name, left in self._waiting.items() if left > 1}
        if len(slower) >= least:
            self._waiting |= dict.fromkeys((key.source for key in slower), IN_A_ROW)
        subject: dict[str, str] = {}
        if self._slow_windows >= IN_A_ROW:
            cause = "the machine, the network, or what all wait for"
            text = f"{len(slow)} of {len(judged)} edges are slow at once: {cause}"
            evidence = {"observed": len(slow), "edges": len(judged), "seconds": WINDOW_S}
            self.events.raise_(Kind.MESH_SLOW, subject, evidence, text, self._clock())
        elif not is_slow:
            self.events.close(Kind.MESH_SLOW, subject, self._clock())
        return self._hushed > 0

    def _tell(self, key: EdgeKey, findings: Mapping[Kind, Finding], *, is_slow: bool) -> None:
        """Raise and close the events of an edge.

        Args:
            is_slow: the whole mesh is, or was just now, so that this edge is not told of alone.
        """
        baseline = self._edges[key]
        subject = {"source": key.source, "destination": key.destination, "protocol": key.protocol}
        for kind in _EDGE_KINDS:
            finding = findings.get(kind)
            if kind is Kind.LATENCY_SHIFT and is_slow and not self.events.is_open(kind, subject):
                continue
            if finding is not None:
                self._raise(kind, subject, finding)
            elif kind not in baseline.unusual:
                self.events.close(kind, subject, self._clock())

    def _see_edge(self, key: EdgeKey, window: Window) -> None:
        is_known = key.source in self._sources
        if len(self._sources) < MAX_EDGES:
            self._sources.add(key.source)
        if self.learns:
            return
        subject = {"source": key.source, "destination": key.destination, "protocol": key.protocol}
        evidence = {"requests": window.requests, "denied": window.denied, "seconds": WINDOW_S}
        who = key.source or "somebody without identity"
        kind = Kind.NEW_EDGE if is_known else Kind.NEW_IDENTITY
        text = f"{who} called {key.destination} for the first time"
        self.events.note(kind, subject, evidence, text, self._clock())

    def _raise(self, kind: Kind, subject: Mapping[str, str], finding: Finding) -> None:
        evidence: dict[str, Any] = {**finding.evidence, "seconds": WINDOW_S}
        ends = f"{subject['source'] or 'outside'} → {subject['destination']}"
        text = f"{ends}: {_WORDS[kind].format(**evidence)}"
        self.events.raise_(kind, subject, evidence, text, self._clock())

    def _see_silent(self, active: Mapping[str, int]) -> None:
        """A service is silent when all that usually call it have been so for a minute."""
        quiet = {key.destination for key, each in self._edges.items() if each.unusual.get("silent", 0) >= 6}
        for service in {*quiet, *self._silent}:
            subject = {"destination": service}
            if service in quiet and not active.get(service):
                usual = sum(each.rate for key, each in self._edges.items() if key.destination == service)
                self._silent[service] = 1
                evidence = {"expected": round(usual, 2), "observed": 0, "seconds": 6 * WINDOW_S}
                text = f"nobody called {service} for a minute; {usual:.0f} requests in {WINDOW_S} s are usual"
                self.events.raise_(Kind.SILENT_SERVICE, subject, evidence, text, self._clock())
            else:
                self._silent.pop(service, None)
                self.events.close(Kind.SILENT_SERVICE, subject, self._clock())

    def _may_tell_path(self, service: str) -> bool:
        """Of a scan a few paths are told one by one, the rest as one event."""
        now = self._clock()
        since, count = self._told_paths.get(service, (now, 0))
        if now - since > SCAN_S:
            since, count = now, 0
            self.events.close(Kind.NEW_PATH_CLASS, {"destination": service}, now)
        self._told_paths[service] = (since, count + 1)
        if count >= SCAN_PATHS:
            text = f"{service} was asked for {count + 1} new classes of paths within {SCAN_S:.0f} s: a scan?"
            evidence = {"observed": count + 1, "seconds": SCAN_S}
            self.events.raise_(Kind.NEW_PATH_CLASS, {"destination": service}, evidence, text, now)
        return count < SCAN_PATHS

    def take_paths(self, reporter: ServiceName, message: Mapping[str, Any]) -> None:
        """What classes of paths a sidecar saw for the first time."""
        if not self.is_on:
            return
        service = str(reporter)
        for found in read_classes(message.get("classes")):
            if self.paths.add(service, found) and not self.learns:
                if not self._may_tell_path(service):
                    continue
                subject = {"destination": service, "method": found.method, "path": found.path}
                evidence = {"source": found.source, "status": found.status}
                who = found.source or "somebody without identity"
                text = f"{who} asked {service} for {found.method} {found.path}, which is new: {found.status}"
                self.events.note(Kind.NEW_PATH_CLASS, subject, evidence, text, self._clock())
