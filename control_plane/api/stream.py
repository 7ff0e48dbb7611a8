"""`GET /v1/stream`: the WebSocket over mTLS through which a sidecar gets its snapshots."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator

from aiohttp import WSCloseCode, WSMsgType, web
from cryptography import x509

from control_plane.api.certificates import peer_of, source_address
from control_plane.errors import AttestationRefused, BadRequest, Unauthenticated
from control_plane.parts import Parts
from control_plane.streams import Stream
from meshpy.model.names import ROOT_NAMESPACE, ServiceName

__all__ = ["StreamRoute"]

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
MAX_FRAME = 1024 * 1024
SEND_S = 30.0
"""A sidecar that does not read for this long is cut off; it comes back when it can.

Of one large frame TLS takes all at once, so that the heartbeat is what finds out; a second one never follows.
"""


class _WebSocket:
    """`distribution.Socket` over aiohttp."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def frames(self) -> AsyncIterator[str]:
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                raise BadRequest("frames are text")
            yield message.data

    async def send(self, text: str) -> None:
        async with asyncio.timeout(SEND_S):
            await self._socket.send_str(text)


class StreamRoute:
    """Invariant: a stream is given snapshots of the identity in its certificate, whatever else it says."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._open: set[web.WebSocketResponse] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        service = self._identify(request)
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MAX_FRAME, compress=False)
        await socket.prepare(request)
        shown = _certificate(request)
        stream = Stream(
            service,
            source_address(request),
            not_after=shown.not_valid_after_utc,
            not_before=shown.not_valid_before_utc,
            serial=f"{shown.serial_number:x}",
            issuer=_issuer(shown),
        )
        self._open.add(socket)
        try:
            why = await self._parts.distribution.serve(stream, _WebSocket(socket))
            log.info("stream of %s task %s ended: %s", service, stream.task, why)
            await socket.close(code=WSCloseCode.OK, message=why.encode()[:120])
        finally:
            self._open.discard(socket)
        return socket

    async def close(self) -> None:
        """Tell every sidecar that we go; they reconnect on their own."""
        async with asyncio.TaskGroup() as group:
            for socket in tuple(self._open):
                group.create_task(
                    socket.close(code=WSCloseCode.GOING_AWAY, message=b"the control plane stops")
                )

    def _identify(self, request: web.Request) -> ServiceName:
        held = peer_of(request, self._parts.signing.trust_domain)
        if held is None:
            raise Unauthenticated("a stream needs a client certificate; enrol first")
        namespace, service = held.namespace, held.service
        if namespace is None or service is None or namespace == ROOT_NAMESPACE:
            raise AttestationRefused("certificate", f"{held} is no workload that has a stream")
        name = ServiceName(namespace, service)
        self._parts.denylist.check(name)
        return name


def _issuer(certificate: x509.Certificate) -> str:
    """The key id of who signed it, hex; our own leaves always say."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (ValueError, x509.ExtensionNotFound):
        return ""
    return (found.value.key_identifier or b"").hex()


def _certificate(request: web.Request) -> x509.Certificate:
    tls = request.transport.get_extra_info("ssl_object") if request.transport else None
    der = tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None
    if not der:
        raise Unauthenticated("the connection is gone")
    return x509.load_der_x509_certificate(der)
