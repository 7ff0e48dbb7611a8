"""Snapshots out, acknowledgements and telemetry back: all streams, and who is in sync."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from control_plane.discovery.view import View
from control_plane.errors import BadRequest
from control_plane.frames import field_of, read_frame
from control_plane.reports import Reports
from control_plane.snapshots import Printed, Shelf
from control_plane.streams import Stream, SyncState
from meshpy.model.names import ServiceName

__all__ = ["Distribution", "Socket", "Trust"]

log = logging.getLogger(__name__)

MAX_GONE = 10_000
GONE_AFTER_S = 300.0
"""How long a sidecar that left is shown as DISCONNECTED, unless its task is known to be gone."""
GREETING_S = 10.0
HELLO_PAUSE_S = 0.1
LOOK_S = 0.005
RENEW_EACH_S, RENEW_WITHIN_S = 0.01, 30.0
"""Over how long the renewals of a rotation are spread: by sidecar, and at most."""


class Socket(Protocol):
    """A WebSocket of text frames."""

    def frames(self) -> AsyncIterator[str]:
        """Each frame received, until the peer closes.

        Raises:
            BadRequest: a frame that is no text.
        """

    async def send(self, text: str) -> None:
        """Send one frame; waits while the peer does not read."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The roots of the mesh.

    Args:
        id: a short name of the set.
        issuer: the key id of who has to have signed every certificate soon; empty when it does not matter.
    """

    id: str
    pem: str
    issuer: str = ""


class Distribution:
    """Args:
    trust: what sidecars believe in as of now.
    replica: our name among those of this control plane.
    """

    def __init__(
        self,
        shelf: Shelf,
        reports: Reports,
        trust: Callable[[], Trust],
        replica: str = "",
    ) -> None:
        self.replica = replica
        self._shelf, self._reports, self._trust = shelf, reports, trust
        reports.taps.changed = reports.asks.changed = self._wake_all
        self.is_lost: Callable[[int, str], bool] = lambda _revision, _version: False
        self.draining: Callable[[Stream], None] = lambda _stream: None
        self._live: dict[Stream, asyncio.Event] = {}
        self._of: dict[ServiceName, set[Stream]] = {}
        self._gone: dict[tuple[ServiceName, str], tuple[float, Stream]] = {}
        self._progress: asyncio.Future[None] | None = None
        self.unknown_frames = 0
        self.pushed, self.pushed_bytes = 0, 0
        self.answered: Counter[str] = Counter()

    def notify(self, changed: set[ServiceName]) -> None:
        """Wake the streams of these services."""
        for service in changed:
            for stream in self._of.get(service, ()):
                self._live[stream].set()
        for stream, wake in self._live.items():
            if stream.kept and not self.is_lost(stream.kept, stream.held):
                stream.kept, stream.reason = 0, ""
                wake.set()
        self._told()

    def end(self, revoked: Collection[ServiceName]) -> None:
        """End the streams of services whose identity is revoked."""
        for stream, wake in self._live.items():
            if stream.service in revoked:
                stream.ends = "its identity is revoked"
                wake.set()

    def send_away(self, why: str) -> None:
        """End all streams; sidecars come again, here or to another replica."""
        for stream, wake in self._live.items():
            stream.ends = why
            wake.set()

    async def serve(self, stream: Stream, socket: Socket) -> str:
        """Run one stream until it ends.

        Returns:
            Why it ended.
        """
        wake = asyncio.Event()
        stream.asked = self._reports.asks.newest
        self._live[stream] = wake
        self._of.setdefault(stream.service, set()).add(stream)
        lifetime_s = (stream.not_after - datetime.now(UTC)).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, lifetime_s)):
                return await _first_of(self._receive(stream, socket, wake), self._send(stream, socket, wake))
        except TimeoutError:
            return "the certificate ended; come again with the next one"
        except BadRequest as error:
            return str(error)
        finally:
            self._leave(stream)

    async def wait_enforced(self, revision: int, timeout_s: float) -> list[Stream]:
        """Wait until every connected sidecar decides by `revision` or a later one.

        Returns:
            Those that still do not after `timeout_s`; empty when it is in force everywhere.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.behind(revision):
                    if self._progress is None:
                        self._progress = asyncio.get_running_loop().create_future()
                    await asyncio.shield(self._progress)
                    await asyncio.sleep(LOOK_S)  # thousands answer: they are counted now and then
        except TimeoutError:
            pass
        return self.behind(revision)

    def behind(self, revision: int) -> list[Stream]:
        """The connected sidecars that decide by an older revision than this, or by none."""
        return [s for s in self._live if s.revision < revision and self._shelf.newest(s.service) is not None]

    def sidecars(self, view: View) -> list[dict[str, Any]]:
        """Every sidecar as `/v1/status` shows it."""
        self._forget(view)
        streams = [*self._live, *(stream for _, stream in self._gone.values())]
        return [self._shown(stream) for stream in sorted(streams, key=lambda s: (s.service, s.task))]

    def held(self, service: str, version: str) -> Mapping[str, Any] | None:
        """What a version that a sidecar of the service holds says; None when it is not known any more."""
        found = self._shelf.known(ServiceName.parse(service), version)
        return found.data if found is not None else None

    def states(self) -> Iterable[tuple[ServiceName, SyncState]]:
        """Where every connected sidecar stands."""
        now_s = time.monotonic()
        return [(s.service, s.state(self._target(s), now_s)) for s in self._live]

    def connected(self) -> list[Stream]:
        """Every sidecar that said hello and is still there."""
        return [stream for stream in self._live if stream.is_greeted]

    def streams(self, services: Collection[ServiceName]) -> list[Stream]:
        """The connected sidecars of these services that said hello, by service and task."""
        found = [s for name in services for s in self._of.get(name, ()) if s.is_greeted]
        return sorted(found, key=lambda s: (s.service, s.task))

    def choose(self, canaries: Collection[Stream]) -> None:
        """Give the candidates to these sidecars and to no others."""
        for stream, wake in self._live.items():
            if stream.is_canary != (stream in canaries):
                stream.is_canary = not stream.is_canary
                wake.set()

    def state(self, stream: Stream) -> SyncState:
        """Where one of them stands."""
        return stream.state(self._target(stream), time.monotonic())

    def _target(self, stream: Stream) -> Printed | None:
        return self._shelf.newest(stream.service, is_canary=stream.is_canary)

    async def _receive(self, stream: Stream, socket: Socket, wake: asyncio.Event) -> str:
        async for text in socket.frames():
            message = read_frame(text)
            now_s = time.monotonic()
            if self._reports.take(stream, message, now_s):
                continue
            match message.get("type"):
                case "hello":
                    if stream.is_greeted:
                        await asyncio.sleep(HELLO_PAUSE_S)  # a sidecar that always starts over must not spin
                    self._greet(stream, message, now_s)
                case "ack":
                    self.answered["ack"] += 1
                    stream.ack(field_of(message, "version"), now_s)
                    self._told()
                case "nack":
                    self.answered["nack"] += 1
                    stream.nack(field_of(message, "version"), str(message.get("reason", "")), now_s)
                case "believes":
                    stream.believes = field_of(message, "bundle")
                    continue
                case "app":
                    stream.has_app = message.get("found") is True
                    continue
                case "draining":
                    self.draining(stream)
                    continue
                case str():
                    self.unknown_frames += 1  # a newer sidecar may tell what we do not know
                    continue
                case _:
                    raise BadRequest("a message has a `type`")
            wake.set()
        return "the sidecar left"

    def trust_changed(self) -> None:
        """Have every stream look at what it believes in."""
        self._wake_all()

    def gone(self, view: View) -> list[Stream]:
        """Those that left lately and may come back."""
        self._forget(view)
        return [stream for _, stream in self._gone.values()]

    def _wake_all(self) -> None:
        for wake in self._live.values():
            wake.set()

    async def _send(self, stream: Stream, socket: Socket, wake: asyncio.Event) -> str:
        async with asyncio.timeout(GREETING_S) as greeting:
            await wake.wait()
            while not stream.is_greeted:
                wake.clear()
                await wake.wait()
            greeting.reschedule(None)
        while not stream.ends:
            wake.clear()
            await self._send_trust(stream, socket)
            taps, asks = self._reports.taps, self._reports.asks
            if stream.tapped != taps.generation:
                stream.tapped = taps.generation
                await socket.send(taps.frame())
            frames, stream.asked = asks.since(stream.asked), asks.newest
            for frame in frames:
                await socket.send(frame)
            newest = self._target(stream)
            if newest is not None and stream.must_send(newest):
                frame = self._shelf.frame(stream.service, stream.held, newest)
                stream.sent(newest, time.monotonic())
                self.pushed, self.pushed_bytes = self.pushed + 1, self.pushed_bytes + len(frame)
                await socket.send(frame)
            else:
                if newest is not None and stream.recognise(newest):
                    self._told()
                await wake.wait()
        return stream.ends

    async def _send_trust(self, stream: Stream, socket: Socket) -> None:
        """The roots when they changed, and the wish for another certificate when another issuer took over."""
        trust = self._trust()
        if stream.told_bundle != trust.id:
            stream.told_bundle = trust.id
            await socket.send(json.dumps({"type": "bundle", "pem": trust.pem, "id": trust.id}))
        if trust.issuer and trust.issuer not in (stream.issuer, stream.asked_renewal):
            stream.asked_renewal = trust.issuer
            within_s = round(min(RENEW_WITHIN_S, RENEW_EACH_S * len(self._live)), 3)
            await socket.send(json.dumps({"type": "renew", "within_s": within_s}))

    def _greet(self, stream: Stream, message: dict[str, Any], now_s: float) -> None:
        stream.task, stream.node = field_of(message, "task"), field_of(message, "node")
        stream.meshpy = field_of(message, "meshpy")
        port = message.get("metrics_port", 0)
        stream.metrics_port = port if isinstance(port, int) and 0 < port < 65536 else 0
        host = field_of(message, "metrics_host")
        stream.metrics_host = host if _is_loopback(host) and _is_loopback(stream.address) else ""
        held = field_of(message, "held")
        stream.hello(held, self._shelf.known(stream.service, held), now_s)
        revision = message.get("revision")
        if held and isinstance(revision, int) and self.is_lost(revision, held):
            stream.keep(revision)
            log.error("%s task %s %s", stream.service, stream.task, stream.reason)
        self._gone.pop((stream.service, stream.task), None)
        self._told()

    def _leave(self, stream: Stream) -> None:
        del self._live[stream]
        self._of[stream.service].discard(stream)
        if not self._of[stream.service]:
            del self._of[stream.service]
        stream.is_connected = False
        returned = any(s.task == stream.task for s in self._of.get(stream.service, ()))
        if stream.is_greeted and not returned:
            self._gone[stream.service, stream.task] = (time.monotonic(), stream)
            if len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]
        self._told()

    def _forget(self, view: View) -> None:
        oldest_s = time.monotonic() - GONE_AFTER_S
        for key, (left_s, _) in list(self._gone.items()):
            if left_s < oldest_s or (view.tasks and key[1] not in view.tasks):
                del self._gone[key]

    def _told(self) -> None:
        """Somebody moved: those who wait for a revision look again."""
        if self._progress is not None:
            self._progress.set_result(None)
            self._progress = None

    def _shown(self, stream: Stream) -> dict[str, Any]:
        newest = self._target(stream)
        return {
            "service": str(stream.service),
            "task": stream.task,
            "node": stream.node,
            "replica": self.replica,
            "address": stream.address,
            "meshpy": stream.meshpy,
            "state": str(stream.state(newest, time.monotonic())),
            "version": newest.version if newest else "",
            "held": stream.held,
            "revision": stream.revision,
            "canary": stream.is_canary,
            "reason": stream.reason,
            "has_app": stream.has_app,
            "held_s": None if stream.held_at_s is None else round(time.monotonic() - stream.held_at_s, 1),
            "certificate_not_before": _rfc3339(stream.not_before or stream.not_after),
            "certificate_not_after": _rfc3339(stream.not_after),
            "certificate_serial": stream.serial,
        }


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


async def _first_of(*works: Awaitable[str]) -> str:
    """Run them side by side until one returns; its answer is returned, the others are cancelled."""
    answers: list[str] = []

    async def run(work: Awaitable[str]) -> None:
        answers.append(await work)
        raise _Done

    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(run(work))
    except* _Done:
        pass
    except* BadRequest as errors:
        answers.append(str(errors.exceptions[0]))
    except* TimeoutError:
        answers.append(f"no hello within {GREETING_S:.0f} s")
    except* ConnectionError:
        answers.append("the connection broke")
    return answers[0]


class _Done(Exception):  # noqa: N818 - never leaves this module
    pass


def _is_loopback(address: str) -> bool:
    """A sidecar elsewhere is asked where it came from: it cannot send Prometheus to others."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
