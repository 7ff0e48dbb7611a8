"""The sidecar: one snapshot and one identity in force, replaced whole, with everything that lives by them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import time
from collections.abc import Callable, Sequence

from certs.bundle import TrustBundle
from certs.identity import Identity
from meshpy.live import Live
from meshpy.model.metrics import Family
from meshpy.model.snapshot import Snapshot
from proxy.access_log import NO_LOG, AccessLog
from proxy.cluster_stats import families_of
from proxy.clusters import Clusters, find_changed
from proxy.config import Compiled, ConfigError, compile_snapshot
from proxy.decide.headers import Ids
from proxy.decide.hosts import Place
from proxy.doors import Doors
from proxy.flow_log import FlowLog
from proxy.health import HealthChecks
from proxy.http.native import codec
from proxy.listeners import MESH_DEFAULT, Listeners, pods_of, wanted_sockets
from proxy.log_shape import LogOptions
from proxy.metric_overrides import MetricOverrides
from proxy.net.addresses import Addresses
from proxy.net.dial import Dialer
from proxy.net.listener import Capacity
from proxy.net.outside import local_networks
from proxy.net.pool import Surroundings
from proxy.net.recording import Recording
from proxy.net.timers import Wheel
from proxy.net.tls import Credentials
from proxy.options import ProcessLimits
from proxy.overload import Guard, cgroup_limit
from proxy.path_watch import PathWatch
from proxy.recent import KEPT, Recent
from proxy.recheck import recheck_exchange
from proxy.report import Reporter
from proxy.sides import Shared
from proxy.spans import Outbox, Spans
from proxy.tap import Tap
from proxy.telemetry import Telemetry
from proxy.turns import Turns

__all__ = ["Sidecar"]

_log = logging.getLogger("meshpy.proxy")

_LOG_FLUSH_S = 0.5
_LOOK_BACK_S = 1.0
_TRIM_S = 5.0
_FREE_AFTER_S = 0.01
_IDLE_GRACE_S = 3.0
_LAST_S = 2.0
_POLL_S = 0.05
_LAST_POLL_S = 0.01
_NO_LIMITS = ProcessLimits()
_LOG_OPTIONS = LogOptions()
_FLOWS_S = 15
_TUNNELS_S = 5
"""As often as Istio tells what passed through a connection that goes on."""


def _forget(_old: object) -> None:
    """Hold the last reference until now."""


class Sidecar:
    """Without identity and snapshot nothing listens, so no byte passes (THREATS P11)."""

    def __init__(
        self,
        *,
        access_log: AccessLog,
        addresses: Addresses,
        mesh_bind: tuple[str, int] = MESH_DEFAULT,
        is_shared: bool = False,
        node: str = "",
        sampling_pct: float = 1.0,
        slow_s: float = 1.0,
        limits: ProcessLimits = _NO_LIMITS,
        log_options: LogOptions = _LOG_OPTIONS,
        flow_log: AccessLog = NO_LOG,
        recent: int = KEPT,
        workers: int = 1,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.loop = loop = asyncio.get_running_loop()
        self.wheel = Wheel(loop)
        self.log = access_log
        self.addresses = addresses
        self.mesh_bind = mesh_bind
        self.telemetry = Telemetry()
        self.log_options = log_options
        self.flows = FlowLog(flow_log, self.telemetry)
        self.recent = Recent(recent)
        self.paths = PathWatch()
        self.spans = Spans(slow_s, self.recent)
        self.outbox = Outbox()
        self.span_sinks: list[Callable[[Sequence[dict[str, object]]], None]] = []
        self.tap = Tap()
        self.credentials: Live[Credentials | None] = Live(None)
        self.snapshot: Live[Snapshot | None] = Live(None)
        self.recording = Recording()
        self.own = Surroundings(
            loop, self.wheel, Dialer(self.credentials, self.snapshot, self.recording), draw
        )
        self.clusters = Clusters(self.own)
        self.health = HealthChecks(self.own)
        self.telemetry.sources += (lambda: families_of(self.clusters.live, loop.time()), access_log.families)
        self.draining = asyncio.Event()
        self.shared = Shared(loop, self.wheel, draw, Ids(os.urandom, sampling_pct))
        self._sampling_pct = sampling_pct
        self._reporters: tuple[Reporter, Reporter] | None = None
        self.capacity = Capacity(limits.connections)
        self.capacity.on_full = self.shared.make_room
        self.guard = self._guard(limits, workers)
        self.others: dict[int, list[Family]] = {}
        self._limits = limits
        if limits.request_bytes:
            self.shared.max_request_bytes = limits.request_bytes
        self.live: Live[Compiled] | None = None
        self.listeners: Listeners | None = None
        self.started_at = time.time()
        self.node = node
        self._is_shared = is_shared
        self._pending: Snapshot | None = None
        self._is_suspended = False
        self.why_closed = ""
        self._apply_lock = asyncio.Lock()

    def _guard(self, limits: ProcessLimits, workers: int) -> Guard:
        is_container = not limits.memory_bytes
        memory_bytes = cgroup_limit() if is_container else limits.memory_bytes // workers
        return Guard(memory_bytes, self.shared, self.capacity, self.telemetry, is_container=is_container)

    @property
    def is_ready(self) -> bool:
        """Whether it serves: identity and snapshot in force, not about to stop."""
        return self.live is not None and not self._is_suspended and not self.shared.is_draining

    async def set_identity(self, identity: Identity, bundle: TrustBundle) -> None:
        """Speak as this identity from now on; connections of the last one end after their exchange.

        Raises:
            CertError: OpenSSL refuses it; the last one stays.
            ConfigError: a snapshot that waited for an identity cannot be applied.
        """
        before = self.credentials.value
        generation = before.generation + 1 if before is not None else 1
        self.credentials.value = Credentials.of(identity, bundle, generation)
        self.telemetry.trust_domain = identity.spiffe_id.trust_domain
        self.telemetry.gauges["meshpy_certificate_expiration_timestamp_seconds"] = (
            identity.not_after.timestamp()
        )
        self.clusters.retire_connections()
        if self._is_suspended:
            self._is_suspended, self.why_closed, self._pending = False, "", self.snapshot.value
        if self._pending is not None:
            await self.apply(self._pending)

    async def suspend(self, why: str) -> None:
        """Let no byte pass until there is an identity again: the one in force has ended."""
        async with self._apply_lock:
            self._is_suspended, self.why_closed = True, why
            if self.listeners is not None:
                self.listeners.close()
            self._cut()

    async def apply(self, snapshot: Snapshot) -> None:
        """Put a snapshot in force, or leave everything as it is.

        Raises:
            ConfigError: it cannot be applied; the text says why.
        """
        async with self._apply_lock:
            if self.credentials.value is None:
                self._pending = snapshot
                return
            self._pending = None
            await self._apply(snapshot)

    async def _apply(self, snapshot: Snapshot) -> None:
        self.own.place = Place(self.node, snapshot.localities)
        prepared = await self.clusters.prepare(snapshot.clusters)
        before = self.live.value if self.live is not None else None
        # Pure work of many milliseconds for a large mesh: requests go on meanwhile.
        compiled = await asyncio.to_thread(compile_snapshot, snapshot, prepared, before)
        changed = await asyncio.to_thread(find_changed, snapshot.clusters, prepared)
        wanted = wanted_sockets(snapshot, self.addresses, self.mesh_bind)
        self.clusters.pods = pods_of(wanted, local_networks())
        await self.clusters.resolve_new(prepared)
        if self.live is None or self.listeners is None:
            live = Live(compiled)
            listeners = self._make_listeners(live)
            opened = listeners.open(wanted)
            self.live, self.listeners = live, listeners
        else:
            listeners = self.listeners
            opened = listeners.open(wanted)
        # What is replaced takes a millisecond or two to free: each part in a turn of its own.
        for number, old in enumerate((self.snapshot.value, before), 1):
            self.loop.call_later(number * _FREE_AFTER_S, _forget, old)
        turns = Turns()
        await self.clusters.update(snapshot.clusters, prepared, changed, turns)
        self.snapshot.value = snapshot
        dropped = self.clusters.commit(prepared)
        self.health.follow(self.clusters.live)
        self.live.value = compiled
        self._report_as(snapshot)
        listeners.commit(wanted, opened)
        ends = [each.not_after.timestamp() for each in compiled.servers.values() if each.not_after]
        if ends:
            self.telemetry.gauges["meshpy_edge_certificate_expiration_timestamp_seconds"] = min(ends)
        self.telemetry.labels = {compiled.workload: snapshot.workload.labels}
        self.telemetry.gauges["meshpy_config_revision"] = float(snapshot.revision)
        self.telemetry.gauges["meshpy_config_applied_timestamp_seconds"] = time.time()
        await self._recheck(snapshot, turns)
        await self.clusters.refresh(turns)
        for upstream in dropped:
            upstream.retire_connections()
            await turns.rest()
        _log.info("snapshot %s in force, revision %d", snapshot.version, snapshot.revision)

    def record(self, max_bytes: int, *, is_redacted: bool) -> None:
        """Record what the app reads and writes from now on; 0 bytes end it."""
        self.recording.begin(max_bytes, is_redacted=is_redacted)
        if max_bytes:
            self.clusters.retire_connections()  # those of the pool are not recorded

    def _make_listeners(self, live: Live[Compiled]) -> Listeners:
        shared = (self.log, self.telemetry, self.spans, self.tap, self.flows, self.log_options)
        inbound, outbound = Reporter("inbound", *shared), Reporter("outbound", *shared)
        self._reporters = (outbound, inbound)
        doors = Doors(live, self.shared, self.own, inbound, outbound)
        return Listeners(
            doors,
            self.capacity,
            self.wheel,
            self._current_credentials,
            self._is_shared,
            self._limits.connections_per_listener,
        )

    def _report_as(self, snapshot: Snapshot) -> None:
        """Logs, metrics, spans and the share of sampled traces, as Telemetry documents have them."""
        settings = snapshot.telemetry
        own = self._sampling_pct if settings.sampling_pct is None else settings.sampling_pct
        self.shared.ids.sample(own)
        if self._reporters is not None:
            client, server = self._reporters
            client.follow(settings.client)
            server.follow(settings.server)
        self.telemetry.overrides = MetricOverrides(settings.client.metrics, settings.server.metrics)

    def _current_credentials(self) -> Credentials:
        credentials = self.credentials.value
        if credentials is None:
            raise ConfigError("this sidecar has no certificate")
        return credentials

    async def _recheck(self, snapshot: Snapshot, turns: Turns) -> None:
        """What is open must be what the new snapshot lets in; new requests are judged by it already."""
        denied = snapshot.denied
        if denied:
            self.clusters.cut(
                lambda each: each.certificate is not None and str(each.certificate.spiffe_id) in denied
            )
        for splice in list(self.shared.splices):
            if splice in self.shared.splices and not splice.is_still_admitted():
                splice.cut()
            await turns.rest()
        for down in list(self.shared.open):
            if down in self.shared.open:
                down.recheck()
                for exchange in down.exchanges():
                    recheck_exchange(exchange, down.role)
                    await turns.rest()
            await turns.rest()

    async def run(self) -> None:
        """Background work, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_back())
            group.create_task(self.clusters.run())
            group.create_task(self._flush_log())
            if codec is not None:
                group.create_task(self._trim(codec.trim))
            group.create_task(self.guard.run())

    async def _trim(self, give_back: Callable[[], None]) -> None:
        """What ended TLS connections held lies in holes of the heap, of which the C library returns none."""
        while True:
            await asyncio.sleep(_TRIM_S)
            give_back()

    async def _look_back(self) -> None:
        """Old exchanges are forgotten; new spans go to whoever wants them; flows are summed up."""
        for second in itertools.count(1):
            await asyncio.sleep(_LOOK_BACK_S)
            if second % _TUNNELS_S == 0:
                self.count_tunnels()
            if second % _FLOWS_S == 0:
                self.flows.flush()
            self.paths.look(self.recent, time.monotonic())
            self.spans.look_back(time.monotonic())
            self.recent.forget(time.monotonic())
            self._offer_spans()

    def _offer_spans(self) -> None:
        if not self.span_sinks:
            self.spans.forget()
        elif spans := self.spans.take():
            for sink in self.span_sinks:
                sink(spans)

    def count_tunnels(self) -> None:
        """Add what passed through opaque connections that go on to the figures."""
        for splice in self.shared.splices:
            splice.count()

    async def _flush_log(self) -> None:
        while True:
            await asyncio.sleep(_LOG_FLUSH_S)
            self.log.flush()

    async def drain(self, grace_s: float, quiet_s: float = 0.0) -> None:
        """Finish what is in progress: go on accepting, answer with `Connection: close`, wait, cut what is
        left.

        An idle connection gets a few seconds for the request that may be on its way to it, one that comes
        meanwhile as well: whoever looks names up learns of the stop later than we do (SWARM C 23).
        Tunnels are ended near the end, each in a moment in which its client waits for nothing.

        Args:
            quiet_s: it is over when nobody has come for so long; clients that keep a looked-up address go on
                coming for a while, and would find nobody.
        """
        begin, idle_s = self.loop.time(), min(_IDLE_GRACE_S, grace_s / 2)
        end, last = begin + grace_s, begin + grace_s - min(_LAST_S, grace_s / 4)
        accepted, since = self.capacity.accepted, begin
        seen = dict.fromkeys(self.shared.open, begin)
        self.shared.is_draining = self.shared.ends_connections = True
        self.draining.set()
        for down in list(self.shared.open):
            down.begin_drain()
        while (now := self.loop.time()) < end:
            if self.capacity.accepted != accepted:
                accepted, since = self.capacity.accepted, now
            is_quiet = now - since >= quiet_s and not (self.shared.open or self.shared.splices)
            if (is_quiet or now >= last) and self.listeners is not None:
                # Who comes from now on is refused and goes elsewhere; who is in the door is served.
                self.listeners.close()
            if is_quiet and not self.capacity.open:
                break
            for down in list(self.shared.open):
                if now - seen.setdefault(down, now) >= idle_s:
                    down.drain()
            if now >= last:
                for splice in list(self.shared.splices):
                    splice.end_if_answered()
            await asyncio.sleep(_POLL_S if now < last else _LAST_POLL_S)
        self._offer_spans()

    def _cut(self) -> None:
        """End every connection at once."""
        for down in list(self.shared.open):
            down.expire()
        for splice in list(self.shared.splices):
            splice.cut()
        self.clusters.cut(lambda _connection: True)

    async def close(self) -> None:
        """End everything at once."""
        if self.listeners is not None:
            self.listeners.close()
        self._cut()
        await self.own.close()
        self.wheel.close()
        await asyncio.sleep(0)
        self.flows.flush()
        for log in (self.flows.log, self.log):
            log.close()
