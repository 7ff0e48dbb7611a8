"""A recording: the access log's JSON lines of sidecars, as `docker service logs` prints them.

Lines of direction `inbound` count: they carry what the callee judged (caller's identity, port, method, path)
and what it said. What the log does not hold (other headers, the token) is noted when a policy asks for it, so
that a verdict on such a request is called uncertain and not guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from meshpy.engine.claims import RequestAuth
from meshpy.engine.normalise import TargetRefusal, normalise_target
from meshpy.engine.rate_limits import STAGE as RATE_LIMIT
from meshpy.engine.request import Peer, Request
from meshpy.model.names import OUTSIDE, ServiceName
from meshpy.model.snapshot import port_of_sni

__all__ = ["TOKEN", "Entry", "Recorded", "Recording", "read_recording"]

_TASK = re.compile(r"\s*(?P<service>[A-Za-z0-9_.-]+?)-sidecar\.[A-Za-z0-9]+\.[A-Za-z0-9]+@\S+\s*\|\s*$")
_PRINCIPAL = re.compile(r"(?:spiffe://)?(?P<domain>[^/]+)/ns/(?P<namespace>[^/]+)/sa/(?P<name>[^/]+)")
TOKEN = "the token"  # noqa: S105 - its name in a sentence
_LOGGED = {"user-agent": "user_agent", "x-forwarded-for": "x_forwarded_for", "x-request-id": "request_id"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One request or connection that a callee judged.

    Args:
        source: None for a caller without identity.
        method: empty for an opaque connection.
        path: normalised; `query` as sent.
        allowed: what the callee said then, by `policy` and `rule` when it refused; a rate limit says nothing
            of who may do what.
        time_s: seconds since the epoch.
    """

    source: ServiceName | None
    principal: str
    address: str
    destination: ServiceName
    port: int
    method: str
    path: str
    query: str
    authority: str
    headers: Mapping[str, str]
    allowed: bool
    policy: str
    rule: str
    status: int
    time_s: float

    @property
    def peer(self) -> Peer:
        return Peer(self.source, self.principal, self.address)

    @property
    def caller(self) -> str:
        return str(self.source) if self.source is not None else OUTSIDE


@dataclass(frozen=True, slots=True)
class Recording:
    """Entries in the order of time.

    Args:
        skipped: why lines were left out → how many.
    """

    entries: tuple[Entry, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def span_s(self) -> float:
        return self.entries[-1].time_s - self.entries[0].time_s if self.entries else 0.0


class Recorded(Request):
    """A request of a recording: it notes what was asked of it that the log does not hold."""

    __slots__ = ("unknown",)

    def __init__(self, entry: Entry) -> None:
        self.unknown: dict[str, None] = {}
        known = {"host": entry.authority, **entry.headers}
        super().__init__(
            entry.method, entry.path, entry.query, entry.authority, "http", _Known(known, self.unknown)
        )

    @property
    def auth(self) -> RequestAuth | None:
        self.unknown[TOKEN] = None
        return None

    @auth.setter
    def auth(self, _value: RequestAuth | None) -> None:
        return


class _Known(Mapping[str, Sequence[str]]):
    def __init__(self, known: Mapping[str, str], unknown: dict[str, None]) -> None:
        self._known = known
        self._unknown = unknown

    def __getitem__(self, name: str) -> Sequence[str]:
        if name not in self._known:
            if name not in _LOGGED:
                self._unknown[f"header {name}"] = None
            raise KeyError(name)
        return (self._known[name],)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def read_recording(lines: Iterable[str], snapshots: Iterable[ServiceName]) -> Recording:
    """Read log lines; those of other writers and directions are counted, not refused.

    Args:
        snapshots: the services of the mesh, to tell them from the names in the log.
    """
    services = {name.swarm_name: name for name in snapshots}
    entries: list[Entry] = []
    skipped: dict[str, int] = {}
    for line in lines:
        if not line.strip():
            continue
        found = _entry(line, services)
        if isinstance(found, str):
            skipped[found] = skipped.get(found, 0) + 1
        else:
            entries.append(found)
    return Recording(tuple(sorted(entries, key=lambda entry: entry.time_s)), skipped)


def _entry(line: str, services: Mapping[str, ServiceName]) -> Entry | str:
    head, brace, rest = line.partition("{")
    try:
        data = json.loads(brace + rest)
    except ValueError:
        return "no access log line"
    if not isinstance(data, dict) or "start_time" not in data or "direction" not in data:
        return "no access log line"
    if data["direction"] != "inbound":
        return "outbound: the callee's line counts"
    task = _TASK.fullmatch(head)
    destination = _destination(data, services.get(task["service"]) if task else None, services)
    if destination is None:
        return "the callee is not of this mesh, or not told (log without `docker service logs` names)"
    return _read(data, *destination)


def _destination(
    data: Mapping[str, Any], logged_by: ServiceName | None, services: Mapping[str, ServiceName]
) -> tuple[ServiceName, int] | None:
    sni = str(data.get("requested_server_name") or "")
    port = port_of_sni(sni)
    if port is not None:
        _, name, namespace = (*sni.split(".")[:3], "", "")[:3]
        wanted = ServiceName(namespace, name)
        known = next((s for s in services.values() if str(s).lower() == str(wanted)), None)
        return (known, port) if known is not None else None
    cluster = str(data.get("upstream_cluster") or "").split("|")
    local = str(data.get("downstream_local_address") or "").rpartition(":")[2]
    number = cluster[1] if len(cluster) == 4 and cluster[0] == "inbound" else local
    return (logged_by, int(number)) if logged_by is not None and number.isdecimal() else None


def _read(data: Mapping[str, Any], destination: ServiceName, port: int) -> Entry | str:
    principal = str(data.get("principal") or "")
    identity = _PRINCIPAL.fullmatch(principal)
    target = normalise_target(str(data.get("path") or "/").encode("utf-8", "replace"))
    if isinstance(target, TargetRefusal):
        return "the path was refused with 400"
    try:
        time_s = datetime.fromisoformat(str(data["start_time"])).timestamp()
    except ValueError:
        return "no access log line"
    headers = {name: str(data[key]) for name, key in _LOGGED.items() if data.get(key)}
    return Entry(
        ServiceName(identity["namespace"], identity["name"]) if identity else None,
        principal.removeprefix("spiffe://"),
        str(data.get("downstream_remote_address") or "").rpartition(":")[0],
        destination,
        port,
        "" if data.get("protocol") == "TCP" else str(data.get("method") or ""),
        target.path,
        target.query,
        str(data.get("authority") or "").lower(),
        headers,
        data.get("stage") in (None, "", RATE_LIMIT),
        str(data.get("policy") or ""),
        str(data.get("rule") or ""),
        int(data.get("response_code") or 0),
        time_s,
    )
