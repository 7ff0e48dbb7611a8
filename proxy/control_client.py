"""The sidecar's line to the control plane: certificates and the stream of snapshots, kept up for ever.

Everything is retried with jittered pauses, and nothing that is in force is given up meanwhile (fail static),
until the certificate ends: then nothing passes any more. Where a cache is given, a start while the control
plane is away goes on with what was kept; a control plane that says no is obeyed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from certs.bundle import TrustBundle
from certs.errors import CertError
from certs.identity import Identity
from certs.lifetime import renew_after_s
from meshpy.errors import MeshpyError
from meshpy.model.names import host_port
from meshpy.model.snapshot import MESH_PORT
from proxy.control_stream import ControlStream
from proxy.enrolment import FAILURES, Enrolled, EnrolmentError, enrol, own_id, stream_context
from proxy.net.interfaces import interfaces, moved
from proxy.new_request import NewRequest, new_request
from proxy.options import ControlOptions
from proxy.replicas import dial
from proxy.sidecar import Sidecar
from proxy.websocket import WebSocket

if TYPE_CHECKING:
    from proxy.cache import Cache

__all__ = ["ControlClient"]

_log = logging.getLogger("meshpy.proxy")

_MIN_PAUSE_S = 0.2
_MAX_PAUSE_S = 3.0
_CONNECT_S = 3.0
_UPGRADE_S = 5.0
_CLOCK_S = 5.0
_KEEP_EVERY_S = 1.0
_KEEP_AGAIN_S = 30.0
_SPREAD_S = 60.0


class _Pause:
    """Growing, jittered pauses: a thousand sidecars do not come back at once."""

    def __init__(self) -> None:
        self._next_s = _MIN_PAUSE_S

    def reset(self) -> None:
        self._next_s = _MIN_PAUSE_S

    def next_s(self) -> float:
        pause_s = self._next_s * (0.5 + random.random())  # noqa: S311 - jitter, no secret
        self._next_s = min(self._next_s * 2, _MAX_PAUSE_S)
        return pause_s


class ControlClient:
    """Keeps one sidecar enrolled and informed.

    Args: mesh_bind: where to accept other sidecars; None: the address on the network `mesh` that
    enrolment tells.
    """

    def __init__(
        self, sidecar: Sidecar, options: ControlOptions, mesh_bind: tuple[str, int] | None = None
    ) -> None:
        self._sidecar = sidecar
        sidecar.span_sinks.append(sidecar.outbox.offer)
        self._options = options
        self._mesh_bind = mesh_bind
        self._given_addresses = sidecar.addresses
        self._enrolled: Enrolled | None = None
        self._is_from_cache = False
        self._failures = 0
        self._cache: Cache | None = None
        if options.cache is not None:
            from proxy.cache import Cache  # noqa: PLC0415 - it brings the X.509 library along

            self._cache = Cache(options.cache, options)
        self._renewed = asyncio.Event()
        self._renewal_asked = asyncio.Event()
        self._unsaved: set[str] = set()
        self._to_save = asyncio.Event()
        self.held: Mapping[str, Any] | None = None

    async def run(self) -> None:
        """Enrol, or begin with what was kept; then keep certificate and stream, until cancelled."""
        await self._begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_certificate())
            group.create_task(self._keep_stream())
            group.create_task(self._end_with_certificate())
            if self._cache is not None:
                group.create_task(self._keep_cache(self._cache))

    async def _begin(self) -> None:
        pause, cache = _Pause(), self._cache
        kept = "; no cache is kept (MESHPY_CACHE)" if cache is None else ""
        made = None
        while self._enrolled is None:
            try:
                made = made or await new_request(own_id(self._options))
                await self._enrol(made)
            except FAILURES as error:
                why = f"{_told(error)}{kept}"
                if cache is not None and not (isinstance(error, EnrolmentError) and error.is_verdict):
                    kept, cache = await self._begin_from_cache(cache), None
                    why += kept
                if self._enrolled is None:
                    _log.warning("no certificate yet, no byte passes: %s", why)
                    self._sidecar.why_closed = why
                    await asyncio.sleep(pause.next_s())

    async def _begin_from_cache(self, cache: Cache) -> str:
        """Serve by what was kept.

        Returns:
            Why not; empty when it serves.
        """
        try:
            cached = await asyncio.to_thread(cache.load, datetime.now(UTC))
            addresses = moved(cached.enrolled.addresses, interfaces())
            kept = Enrolled(cached.enrolled.identity, cached.enrolled.bundle, addresses)
            self._take_addresses(kept.addresses)
            await self._sidecar.set_identity(kept.identity, kept.bundle)
            await self._sidecar.apply(cached.snapshot)
        except (MeshpyError, CertError) as error:
            return f"; the cache is not used: {error}"
        self._enrolled, self._is_from_cache, self.held = kept, True, cached.printed
        _log.warning(
            "the control plane is away: serving by the cache, snapshot %s, certificate until %s",
            cached.snapshot.version,
            kept.identity.not_after.isoformat(),
        )
        return ""

    # -- certificates

    async def _enrol(self, made: NewRequest) -> None:
        """Have a certificate: by the current one while it is valid, else by the join token.

        Every other failure the token is tried: our certificate may be under a root that nobody believes in.
        """
        current = self._enrolled
        bundle = current.bundle if current is not None else self._first_bundle()
        held = current.identity if current is not None and self._failures % 2 == 0 else None
        try:
            enrolled = await enrol(self._options, made, held, bundle)
        except FAILURES:
            self._failures += 1
            raise
        self._failures = 0
        self._take_addresses(enrolled.addresses)
        await self._sidecar.set_identity(enrolled.identity, enrolled.bundle)
        self._enrolled, self._is_from_cache = enrolled, False
        self._renewed.set()
        self._save("credentials")
        identity = enrolled.identity
        behind_s = (identity.not_before - datetime.now(UTC)).total_seconds()
        if behind_s > 0:
            _log.warning("this clock is more than %.0f s behind the control plane's", behind_s)
        _log.info("certificate of %s until %s", identity.spiffe_id, identity.not_after.isoformat())

    def _first_bundle(self) -> TrustBundle:
        return TrustBundle.from_pem(self._options.trust_domain, self._options.bundle_file.read_bytes())

    def _take_addresses(self, addresses: Mapping[str, tuple[str, ...]]) -> None:
        sidecar = self._sidecar
        sidecar.addresses = self._given_addresses.with_more(addresses)
        if self._mesh_bind is not None:
            sidecar.mesh_bind = self._mesh_bind
        elif "mesh" in addresses:
            sidecar.mesh_bind = ("mesh", MESH_PORT)

    async def _keep_certificate(self) -> None:
        """Renew at half-life, or when asked; a failed renewal is tried again, the current one serves on."""
        loop, pause, made = asyncio.get_running_loop(), _Pause(), None
        at = loop.time() + (0.0 if self._is_from_cache else self._renew_after_s())
        while True:
            made = made or await self._make_ahead(at)
            try:
                async with asyncio.timeout_at(at):
                    await self._renewal_asked.wait()
            except TimeoutError:
                pass
            self._renewal_asked.clear()
            try:
                await self._enrol(made)
            except FAILURES as error:
                _log.warning("certificate not renewed: %s", _told(error))
                at = loop.time() + pause.next_s()
            else:
                pause.reset()
                at, made = loop.time() + self._renew_after_s(), None

    async def _make_ahead(self, at: float) -> NewRequest:
        """The next key, before it is due: the process that makes it takes its time on a busy node.

        Not at once: all sidecars of a node begin together, and renew together when a root is replaced.
        """
        left_s = max(0.0, at - asyncio.get_running_loop().time())
        wait_s = min(_SPREAD_S, left_s / 2) * random.random()  # noqa: S311 - jitter, no secret
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._renewal_asked.wait()
        return await new_request(own_id(self._options))

    def _renew_after_s(self) -> float:
        jitter = random.random()  # noqa: S311 - no secret
        return renew_after_s(self._identity(), datetime.now(UTC), jitter)

    def ask_renewal(self, within_s: float) -> None:
        delay_s = max(0.0, within_s) * random.random()  # noqa: S311 - jitter, no secret
        self._sidecar.wheel.after(delay_s, self._renewal_asked.set)

    async def _end_with_certificate(self) -> None:
        """A certificate that has ended serves nobody. The wall clock may jump: it is read often."""
        while True:
            identity = self._identity()
            left_s = (identity.not_after - datetime.now(UTC)).total_seconds()
            if left_s > 0:
                await asyncio.sleep(min(left_s, _CLOCK_S))
                continue
            why = f"the certificate ended at {identity.not_after.isoformat()} and is not renewed"
            _log.error("no byte passes: %s", why)
            await self._sidecar.suspend(why)
            await self._until_renewed(identity)

    # -- stream

    async def _keep_stream(self) -> None:
        pause = _Pause()
        while True:
            identity = self._identity()
            try:
                await self._stream(identity, pause)
            except FAILURES as error:
                _log.warning("no stream from the control plane: %s", _told(error))
            except ExceptionGroup as group:
                _log.warning("the stream ended: %s", "; ".join(_told(error) for error in group.exceptions))
            if self._identity() is identity:
                self._sidecar.clusters.is_alone = True
                await asyncio.sleep(pause.next_s())

    async def _stream(self, identity: Identity, pause: _Pause) -> None:
        options = self._options
        context = stream_context(options, identity, self._current().bundle)
        # Bounded as a whole: a peer that takes the connection and never answers must not hold us.
        async with asyncio.timeout(_CONNECT_S + _UPGRADE_S):
            async with asyncio.timeout(_CONNECT_S):
                link = await dial(options.address, options.port, context)
            socket = await WebSocket.open(link, host_port(options.address, options.port), "/v1/stream")
        try:
            pause.reset()
            self._sidecar.clusters.is_alone = False
            stream = ControlStream(socket, self._sidecar, options, self)
            await stream.run(lambda: self._until_renewed(identity))
        finally:
            socket.close()

    async def _until_renewed(self, identity: Identity) -> None:
        """The stream comes back with the new certificate before the old one ends."""
        while self._identity() is identity:
            self._renewed.clear()
            await self._renewed.wait()

    async def take_bundle(self, pem: str) -> None:
        """Believe in these roots from now on.

        Raises:
            CertError: they cannot be read.
        """
        current = self._enrolled
        bundle = TrustBundle.from_pem(self._options.trust_domain, pem.encode())
        if current is not None and bundle != current.bundle:
            # The certificate stays the same object: a new bundle alone is no reason to come back.
            self._enrolled = Enrolled(current.identity, bundle, current.addresses)
            await self._sidecar.set_identity(current.identity, bundle)
            self._save("credentials")
            _log.info("trust bundle replaced: %d roots", len(bundle.roots))

    def _identity(self) -> Identity:
        return self._current().identity

    def _current(self) -> Enrolled:
        if self._enrolled is None:
            raise EnrolmentError("there is no certificate yet")
        return self._enrolled

    # -- cache

    def kept(self) -> None:
        """The snapshot in force changed."""
        self._save("snapshot")

    def _save(self, what: str) -> None:
        self._unsaved.add(what)
        self._to_save.set()

    async def _keep_cache(self, cache: Cache) -> None:
        """Write what changed, at most once a second; a disk that refuses is told and tried again."""
        while True:
            await self._to_save.wait()
            self._to_save.clear()
            todo, self._unsaved = self._unsaved, set()
            try:
                if "credentials" in todo and self._enrolled is not None:
                    await asyncio.to_thread(cache.save_credentials, self._enrolled)
                if "snapshot" in todo and self.held is not None:
                    await asyncio.to_thread(cache.save_snapshot, self.held)
            except MeshpyError as error:
                _log.error("the cache is not kept: %s", error)
                self._unsaved |= todo
                self._sidecar.wheel.after(_KEEP_AGAIN_S, self._to_save.set)
            await asyncio.sleep(_KEEP_EVERY_S)


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
