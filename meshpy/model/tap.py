"""What `tap` looks for: the same question in the command, the control plane and the sidecar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["VERDICTS", "TapFilter", "verdict_of"]

VERDICTS = ("FORWARDED", "DENIED", "ERROR", "AUDIT")


def verdict_of(*, is_denied: bool, is_failed: bool, is_audited: bool) -> str:
    """Of what became of a request or a connection the word that says most."""
    if is_denied:
        return "DENIED"
    if is_failed:
        return "ERROR"
    return "AUDIT" if is_audited else "FORWARDED"


@dataclass(frozen=True, slots=True)
class TapFilter:
    """Every field that is set must hold.

    Args:
        source, destination: `shop/web`, or `web` of any stack; `outside` is a caller without identity.
        direction: `in` (told by the callee's sidecar) or `out` (by the caller's).
        path: a prefix.
        status: the first digits of the status: `5` is every 5xx.
        verdict: one of VERDICTS; AUDIT is forwarded, and noticed by a policy that decides nothing.
        min_ms: the least duration.
    """

    source: str = ""
    destination: str = ""
    direction: str = ""
    method: str = ""
    path: str = ""
    status: str = ""
    verdict: str = ""
    min_ms: float = 0.0

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether one record is looked for."""
        return (
            record["duration_ms"] >= self.min_ms
            and self.direction in ("", record["direction"])
            and self.method in ("", record["method"])
            and self.verdict in ("", record["verdict"])
            and str(record["path"]).startswith(self.path)
            and str(record["status"]).startswith(self.status)
            and self.is_between(record["source"], record["destination"])
        )

    def is_between(self, source: str, destination: str) -> bool:
        """Whether the ends are those that are looked for."""
        return _is(self.source, source) and _is(self.destination, destination)

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> TapFilter:
        """Read it from JSON or a query.

        Raises:
            ValueError: an unknown name, or a value that cannot be.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(value) - known)
        if unknown:
            raise ValueError(f"tap has no filter {unknown[0]!r}; it has {', '.join(sorted(known))}")
        texts = {name: str(item) for name, item in value.items() if name != "min_ms"}
        try:
            found = cls(**texts, min_ms=float(value.get("min_ms", 0)))
        except ValueError:
            raise ValueError("`min_ms` is a number of milliseconds") from None
        if found.direction not in ("", "in", "out"):
            raise ValueError("`direction` is in or out")
        if found.verdict not in ("", *VERDICTS):
            raise ValueError(f"`verdict` is one of {', '.join(VERDICTS)}")
        if found.status and (not found.status.isdecimal() or len(found.status) > 3):
            raise ValueError("`status` is the first digits of a status: 5, 40, 503")
        return found

    def to_json(self) -> dict[str, str | float]:
        """What is set."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name))}


def _is(wanted: str, name: str) -> bool:
    if not wanted:
        return True
    if wanted == "outside":
        return not name
    return name == wanted or name.rpartition("/")[2] == wanted
