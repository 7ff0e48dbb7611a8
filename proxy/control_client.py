"""The sidecar's line to the control plane: certificates, the stream of snapshots, the counters back.

Everything is retried for ever with jittered pauses, and nothing that is in force is given up meanwhile (fail
static). The control plane is who its SPIFFE id says, checked inside the handshake; a name on a shared network
proves nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp

from certs.bundle import TrustBundle
from certs.csr import csr_to_pem, make_csr
from certs.errors import CertError, PeerRefused
from certs.identity import Identity, renew_at
from certs.keys import generate_key
from certs.spiffe import SpiffeId
from certs.tls import client_context, verify_peer
from meshpy import wire
from meshpy.errors import MeshpyError
from meshpy.model.names import CONTROL_PLANE
from meshpy.model.snapshot import MESH_PORT
from meshpy.model.tap import TapFilter
from proxy.options import ControlOptions
from proxy.sidecar import Sidecar

__all__ = ["ControlClient", "EnrolmentError"]

_LARGE = 64 * 1024

_log = logging.getLogger("meshpy.proxy")

_MIN_PAUSE_S = 0.2
_MAX_PAUSE_S = 5.0
_REPORT_EVERY_S = 1.0
_TAP_EVERY_S = 0.25
_HEARTBEAT_S = 10.0
_MAX_FRAME_BYTES = 64 * 1024 * 1024
_HTTP_TIMEOUT = aiohttp.ClientTimeout(total=10.0, connect=5.0)
_VERSION = "0.1.0"


class EnrolmentError(MeshpyError):
    """The control plane gave no certificate; the text says why."""


class _Pause:
    """Growing, jittered pauses: a thousand sidecars do not come back at once."""

    def __init__(self) -> None:
        self._next_s = _MIN_PAUSE_S

    def reset(self) -> None:
        self._next_s = _MIN_PAUSE_S

    async def wait(self) -> None:
        await asyncio.sleep(self._next_s * (0.5 + random.random()))  # noqa: S311 - jitter, no secret
        self._next_s = min(self._next_s * 2, _MAX_PAUSE_S)


def _verified(context: ssl.SSLContext, trust_domain: str) -> ssl.SSLContext:
    """Have every handshake of `context` end with the check of the control plane's identity."""
    expected = frozenset((SpiffeId(trust_domain, CONTROL_PLANE.spiffe_path),))

    class ControlPlaneTls(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            try:
                verify_peer(self, trust_domain, datetime.now(UTC), expected=expected)
            except PeerRefused as refusal:
                raise ssl.SSLCertVerificationError(str(refusal)) from refusal

    context.sslobject_class = ControlPlaneTls
    return context


def _bundle_context(bundle: TrustBundle) -> ssl.SSLContext:
    """TLS without a certificate of our own, for the first enrolment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    context.options |= ssl.OP_NO_TICKET
    context.load_verify_locations(cadata=bundle.to_pem().decode("ascii"))
    return context


class ControlClient:
    """Keeps one sidecar enrolled and informed.

    Args: mesh_bind: where to accept other sidecars; None: the address on the network `mesh` that
    enrolment tells.
    """

    def __init__(
        self, sidecar: Sidecar, options: ControlOptions, mesh_bind: tuple[str, int] | None = None
    ) -> None:
        self._sidecar = sidecar
        self._options = options
        self._mesh_bind = mesh_bind
        self._base = f"https://{options.address}:{options.port}"
        self._bundle: TrustBundle | None = None
        self._identity: Identity | None = None
        self._held: dict[str, Any] | None = None
        self._rejected = ""
        self._renewed = asyncio.Event()

    async def run(self) -> None:
        """Enrol, then keep certificate and stream, until cancelled."""
        pause = _Pause()
        while self._identity is None:
            try:
                await self._enrol()
            except (MeshpyError, CertError, OSError, aiohttp.ClientError, TimeoutError) as error:
                _log.warning("no certificate yet, no byte passes: %s", str(error) or type(error).__name__)
                await pause.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_certificate())
            group.create_task(self._keep_stream())

    # -- certificates

    def _trusted(self) -> TrustBundle:
        if self._bundle is None:
            path = self._options.bundle_file
            self._bundle = TrustBundle.from_pem(self._options.trust_domain, path.read_bytes())
        return self._bundle

    async def _enrol(self) -> None:
        """Ask for a certificate with the join token, or with the current certificate while it is valid."""
        options = self._options
        namespace, _, service = options.service.partition("/")
        spiffe_id = SpiffeId.for_service(options.trust_domain, namespace, service)
        key = generate_key()
        request = {
            "csr": csr_to_pem(make_csr(key, spiffe_id)),
            "service": options.service,
            "task": options.task,
        }
        current = self._identity
        if current is not None and current.not_after > datetime.now(UTC):
            context = client_context(current, self._trusted(), alpn=("http/1.1",))
        else:
            request["token"] = options.token_file.read_text(encoding="utf-8").strip()
            context = _bundle_context(self._trusted())
        answer = await self._post("/v1/certificates", request, _verified(context, options.trust_domain))
        try:
            identity = Identity.from_pem(answer["chain"].encode(), key)
            bundle = TrustBundle.from_pem(options.trust_domain, answer["bundle"].encode())
            addresses = {str(name): tuple(map(str, own)) for name, own in answer["addresses"].items()}
        except (KeyError, AttributeError, TypeError) as error:
            raise EnrolmentError(f"the control plane's answer is not understood: {error!r}") from error
        if identity.spiffe_id != spiffe_id:
            raise EnrolmentError(f"asked for {spiffe_id}, was given {identity.spiffe_id}")
        self._identity, self._bundle = identity, bundle
        self._take_addresses(addresses)
        await self._sidecar.set_identity(identity, bundle)
        self._renewed.set()
        _log.info("certificate of %s until %s", spiffe_id, identity.not_after.isoformat())

    def _take_addresses(self, addresses: Mapping[str, tuple[str, ...]]) -> None:
        sidecar = self._sidecar
        sidecar.addresses = sidecar.addresses.with_more(addresses)
        if self._mesh_bind is not None:
            sidecar.mesh_bind = self._mesh_bind
        elif "mesh" in addresses:
            sidecar.mesh_bind = ("mesh", MESH_PORT)

    async def _post(self, path: str, body: object, context: ssl.SSLContext) -> Any:
        async with (
            aiohttp.ClientSession(timeout=_HTTP_TIMEOUT) as session,
            session.post(self._base + path, json=body, ssl=context) as response,
        ):
            text = await response.text()
            if response.status != 200:
                raise EnrolmentError(f"{path}: {response.status} {_problem_of(text)}")
            try:
                return json.loads(text)
            except ValueError as error:
                raise EnrolmentError(f"{path}: no JSON in the answer") from error

    async def _keep_certificate(self) -> None:
        """Renew at half-life; a failed renewal is tried again, the current certificate serves on."""
        pause = _Pause()
        while True:
            identity = self._identity
            if identity is not None:
                due = renew_at(identity, random.random())  # noqa: S311 - jitter, no secret
                await asyncio.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
            try:
                await self._enrol()
                pause.reset()
            except (MeshpyError, CertError, OSError, aiohttp.ClientError, TimeoutError) as error:
                _log.warning("certificate not renewed: %s", str(error) or type(error).__name__)
                await pause.wait()

    # -- stream

    async def _keep_stream(self) -> None:
        pause = _Pause()
        while True:
            try:
                await self._stream(pause)
            except (MeshpyError, CertError, OSError, aiohttp.ClientError, TimeoutError) as error:
                _log.warning("no stream from the control plane: %s", str(error) or type(error).__name__)
            except ExceptionGroup as group:
                _log.warning("the stream ended: %s", "; ".join(str(error) for error in group.exceptions))
            await pause.wait()

    async def _stream(self, pause: _Pause) -> None:
        identity = self._identity
        if identity is None:
            return
        context = client_context(identity, self._trusted(), alpn=("http/1.1",))
        context = _verified(context, self._options.trust_domain)
        timeout = aiohttp.ClientTimeout(total=None, connect=5.0, sock_connect=5.0)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.ws_connect(
                self._base + "/v1/stream", ssl=context, heartbeat=_HEARTBEAT_S, max_msg_size=_MAX_FRAME_BYTES
            ) as socket,
        ):
            pause.reset()
            await self._hello(socket)
            self._renewed.clear()
            async with asyncio.TaskGroup() as group:
                reporter = group.create_task(self._report(socket))
                tapper = group.create_task(self._tell_tapped(socket))
                renewed = group.create_task(self._close_when_renewed(socket))
                try:
                    async for message in socket:
                        if message.type is aiohttp.WSMsgType.TEXT:
                            await self._on_frame(socket, message.data)
                finally:
                    self._sidecar.tap.ask((), 0)
                    tapper.cancel()
                    reporter.cancel()
                    renewed.cancel()

    async def _close_when_renewed(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Come back with the new certificate before the old one ends."""
        await self._renewed.wait()
        await socket.close()

    async def _hello(self, socket: aiohttp.ClientWebSocketResponse, held: str | None = None) -> None:
        version = self._held["version"] if self._held is not None else ""
        options = self._options
        await socket.send_json(
            {
                "type": "hello",
                "held": version if held is None else held,
                "task": options.task,
                "node": options.node,
                "meshpy": _VERSION,
            }
        )

    async def _on_frame(self, socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
        try:
            # Frames of a large mesh take many milliseconds to read: requests go on meanwhile.
            frame = await asyncio.to_thread(json.loads, text) if len(text) > _LARGE else json.loads(text)
            kind = frame["type"]
        except (ValueError, KeyError, TypeError) as error:
            raise EnrolmentError("a frame of the stream is not understood") from error
        if kind == "snapshot":
            await self._on_snapshot(socket, frame.get("delta") or {})
        elif kind == "tap":
            self._on_tap(frame)
        elif kind == "bundle":
            await self._on_bundle(str(frame.get("pem", "")))

    async def _on_snapshot(self, socket: aiohttp.ClientWebSocketResponse, delta: dict[str, Any]) -> None:
        """Apply a delta; what cannot be applied is refused with its reason and changes nothing."""
        version = str(delta.get("version", ""))
        base = self._held if delta.get("base") else None
        try:
            printed = await asyncio.to_thread(wire.apply_delta, base, delta)
        except (MeshpyError, KeyError, TypeError) as error:
            _log.warning("asking for a whole snapshot: %s", error)
            self._held = None
            await self._hello(socket, held="")
            return
        self._held = printed
        try:
            await self._sidecar.apply(await asyncio.to_thread(wire.decode_snapshot, printed))
        except MeshpyError as error:
            _log.error("snapshot %s refused, the last good one stays: %s", version, error)
            await socket.send_json({"type": "nack", "version": version, "reason": str(error)})
            return
        await socket.send_json({"type": "ack", "version": version})

    async def _on_bundle(self, pem: str) -> None:
        identity = self._identity
        bundle = TrustBundle.from_pem(self._options.trust_domain, pem.encode())
        if identity is not None and bundle != self._bundle:
            self._bundle = bundle
            await self._sidecar.set_identity(identity, bundle)
            _log.info("trust bundle replaced: %d roots", len(bundle.roots))

    def _on_tap(self, frame: dict[str, Any]) -> None:
        """A newer control plane may ask what this sidecar does not know: then it tells nothing."""
        try:
            filters = [TapFilter.read(each) for each in frame.get("filters", ())]
            self._sidecar.tap.ask(filters, int(frame.get("per_s", 0)))
        except (ValueError, TypeError, AttributeError) as error:
            _log.warning("a tap is not understood: %s", error)
            self._sidecar.tap.ask((), 0)

    async def _tell_tapped(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await asyncio.sleep(_TAP_EVERY_S)
            records = self._sidecar.tap.take()
            if records:
                await socket.send_json({"type": "tapped", "records": records})

    async def _report(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            records = self._sidecar.telemetry.take_records()
            if records:
                await socket.send_json({"type": "stats", "records": records})
            spans = self._sidecar.spans.take()
            if spans:
                await socket.send_json({"type": "spans", "spans": spans})


def _problem_of(text: str) -> str:
    """The sentence of a problem+json answer, else its beginning."""
    try:
        problem = json.loads(text)
        return str(problem.get("detail") or problem.get("title") or text[:200])
    except (ValueError, AttributeError):
        return text[:200]
