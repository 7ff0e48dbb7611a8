"""Which requests a workload lets in, by caller, port, method and path: the stuff of least-privilege policies.

Hot file: a request costs one look-up. Tables are bounded, and what did not fit is counted as lost, so that
nobody takes a part for the whole.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Admitted", "Kinds"]

MAX_CALLERS = 1000
MAX_KINDS = 1000
MAX_PATH = 512
MAX_METHOD = 32
MAX_ROWS = 2000

RuleKey = tuple[str, str, str, bool]
"""Stage, policy, rule, whether it allowed."""


class Kinds:
    """What one caller was let do on one port since the last report."""

    __slots__ = ("counts", "lost", "open")

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.lost = 0
        self.open = 0
        """Opaque connections that are in use now."""

    def connect(self) -> None:
        """Count an opaque connection, and say that it is in use until it is over."""
        self.add("", "")
        self.open += 1

    def add(self, method: str, path: str) -> None:
        """Count a request that is over; an opaque connection has neither method nor path."""
        counts, key = self.counts, (method, path)
        count = counts.get(key)
        if count is not None:
            counts[key] = count + 1
        elif len(counts) < MAX_KINDS and len(path) <= MAX_PATH and len(method) <= MAX_METHOD:
            counts[key] = 1
        else:
            self.lost += 1


class Admitted:
    """All callers of a process."""

    def __init__(self) -> None:
        self._callers: dict[tuple[str, int], Kinds] = {}
        self._told: dict[RuleKey, int] = {}
        self._others = Kinds()

    def of(self, source: str, port: int) -> Kinds:
        """Where to count a caller; `source` is `namespace/name`, empty without an identity."""
        found = self._callers.get((source, port))
        if found is None:
            if len(self._callers) >= MAX_CALLERS:
                return self._others
            found = self._callers[source, port] = Kinds()
        return found

    def take(self, verdicts: Mapping[RuleKey, int]) -> dict[str, object]:
        """What came since the last call, in one message of bounded size; the rest waits for the next.

        Args:
            verdicts: how often each rule decided, since the start.
        """
        rows: list[list[object]] = []
        lost = self._others.lost + sum(self._others.counts.values())
        self._others = Kinds() if lost else self._others
        for (source, port), caller in self._callers.items():
            lost += caller.lost
            caller.lost = 0
            if caller.open:
                caller.counts.setdefault(("", ""), 0)
            while caller.counts and len(rows) < MAX_ROWS:
                (method, path), count = caller.counts.popitem()
                rows.append([source, port, method, path, count])
        rules: list[list[object]] = []
        for key, total in verdicts.items():
            if total != self._told.get(key, 0):
                rules.append([*key, total - self._told.get(key, 0)])
                self._told[key] = total
        return {"type": "seen", "flows": rows, "rules": rules[:MAX_ROWS], "lost": lost}
