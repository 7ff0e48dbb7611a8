"""The admin server on loopback: readiness, metrics, what is in force. Read only."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from meshpy.exposition import OPENMETRICS, PROMETHEUS, openmetrics, prometheus, wants_openmetrics
from meshpy.model.metrics import Family
from meshpy.wire import encode
from proxy import is_compiled
from proxy.cluster_stats import state_of
from proxy.http.events import Refused
from proxy.http.h1 import RequestParser
from proxy.http.head import RequestHead
from proxy.merged import merged
from proxy.net.tls import Credentials
from proxy.series import families
from proxy.sidecar import Sidecar

__all__ = ["Admin"]

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_LOCAL_HOSTS = frozenset(("127.0.0.1", "localhost", "[::1]"))
_IDLE_S = 30.0

Answer = tuple[int, str, str]


class Admin(asyncio.Protocol):
    """One connection.

    Requests with a foreign Host are refused: a page in a browser must not read this (DNS rebinding).
    """

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._parser = RequestParser()
        self._is_for_all = False
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._routes: dict[str, Callable[[], Answer]] = {
            "/readyz": self._readyz,
            "/livez": lambda: (200, _TEXT, "ok\n"),
            "/metrics": lambda: (200, PROMETHEUS, prometheus(self._families())),
            "/config_dump": self._config_dump,
            "/stats": self._stats,
            "/server_info": self._server_info,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._sidecar.wheel.after(_IDLE_S, self._transport.close)

    def data_received(self, data: bytes) -> None:
        events = self._parser.feed(data)
        while events:
            for event in events:
                if isinstance(event, RequestHead):
                    self._answer(event)
                elif isinstance(event, Refused):
                    self._write(event.status, _TEXT, event.detail + "\n", is_last=True, is_head=False)
            events = self._parser.next_message()

    def _answer(self, head: RequestHead) -> None:
        route = self._routes.get(head.path)
        if head.host not in _LOCAL_HOSTS and not self._is_for_all:
            answer: Answer = (421, _TEXT, "this server answers to 127.0.0.1 and localhost\n")
        elif head.method not in ("GET", "HEAD"):
            answer = (405, _TEXT, "read only: GET\n")
        elif route is None:
            answer = (404, _TEXT, "\n".join(sorted(self._routes)) + "\n")
        else:
            accept = head.fields.get(b"accept", b"").decode("latin-1")
            is_open = head.path == "/metrics" and wants_openmetrics(accept)
            answer = (200, OPENMETRICS, openmetrics(self._families())) if is_open else route()
        self._write(*answer, is_last=not head.keep_alive, is_head=head.method == "HEAD")

    def _write(self, status: int, content_type: str, body: str, *, is_last: bool, is_head: bool) -> None:
        content = body.encode()
        close = "connection: close\r\n" if is_last else ""
        head = (
            f"HTTP/1.1 {status} \r\ncontent-type: {content_type}\r\ncontent-length: {len(content)}\r\n"
            f"cache-control: no-store\r\n{close}\r\n"
        )
        self._transport.write(head.encode() + (b"" if is_head else content))
        if is_last:
            self._transport.close()

    def _families(self) -> Iterable[Family]:
        own, others = families(self._sidecar.telemetry), self._sidecar.others
        return merged([own, *others.values()]) if others else own

    def _readyz(self) -> Answer:
        sidecar = self._sidecar
        if sidecar.is_ready:
            return 200, _TEXT, "ready\n"
        if sidecar.shared.is_draining:
            return 503, _TEXT, "draining\n"
        lacks = "certificate" if sidecar.credentials.value is None else "snapshot"
        why = f": {sidecar.why_closed}" if sidecar.why_closed else ""
        if sidecar.live is not None:
            return 503, _TEXT, f"no byte passes{why}\n"
        return 503, _TEXT, f"no {lacks} yet: no byte passes{why}\n"

    def _config_dump(self) -> Answer:
        snapshot = self._sidecar.snapshot.value
        return 200, _JSON, json.dumps(encode(snapshot) if snapshot is not None else None, indent=1) + "\n"

    def _stats(self) -> Answer:
        now = self._sidecar.loop.time()
        clusters = {name: state_of(each, now) for name, each in self._sidecar.clusters.live.items()}
        return (
            200,
            _JSON,
            json.dumps({"connections": self._sidecar.capacity.open, "clusters": clusters}) + "\n",
        )

    def _server_info(self) -> Answer:
        sidecar = self._sidecar
        credentials, snapshot = sidecar.credentials.value, sidecar.snapshot.value
        info = {
            **_trust(credentials),
            "workload": str(snapshot.workload.name) if snapshot is not None else None,
            "version": snapshot.version if snapshot is not None else None,
            "revision": snapshot.revision if snapshot is not None else None,
            "listeners": sidecar.listeners.describe() if sidecar.listeners is not None else [],
            "uptime_s": round(time.time() - sidecar.started_at, 1),
            "is_compiled": is_compiled,
        }
        return 200, _JSON, json.dumps(info) + "\n"


def _trust(credentials: Credentials | None) -> dict[str, Any]:
    """Who it is, under which root, and which roots it believes in; roots by their SHA-256."""
    if credentials is None:
        return {"identity": None, "not_after": None, "root": None, "roots": []}
    identity, bundle = credentials.identity, credentials.bundle
    return {
        "identity": str(identity.spiffe_id),
        "not_after": identity.not_after.isoformat(),
        "root": bundle.root_above(identity.chain_pem),
        "roots": list(bundle.fingerprints),
    }
