"""Events to a URL of the operator's, signed, and only to where they may go.

Signatures are those of Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,…`, an
HMAC-SHA256 over `id.timestamp.body`. Addresses are judged as those of issuers' keys are: public ones, and
what `--webhook-allow` names; no redirect is followed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp

from control_plane.anomalies.event import Event
from control_plane.errors import StartRefused
from control_plane.jwks.errors import KeysError
from control_plane.jwks.guard import Guard, GuardedResolver
from control_plane.settings import WebhookSettings

__all__ = ["Webhook", "signature"]

log = logging.getLogger(__name__)

MAX_WAITING = 100
TRIES = 5
FIRST_PAUSE_S = 1.0
TIMEOUT_S = 10.0
MIN_SECRET = 16


def signature(secret: bytes, ident: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of a message."""
    digest = hmac.new(secret, f"{ident}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class Webhook:
    """Raises StartRefused when the URL or the secret cannot be used."""

    def __init__(self, settings: WebhookSettings, tls: ssl.SSLContext, draw: Callable[[], float]) -> None:
        self._settings, self._tls, self._draw = settings, tls, draw
        self._guard = Guard.of(settings.allow, "--webhook-allow")
        self._check(settings)
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        self.sent = self.failed = self.dropped = 0

    def _check(self, settings: WebhookSettings) -> None:
        parts = urlsplit(settings.url)
        host = parts.hostname or ""
        is_plain = parts.scheme == "http" and self._guard.is_trusted(host)
        if not host or not (parts.scheme == "https" or is_plain) or parts.username:
            raise StartRefused(
                f"--webhook {settings.url!r}: write https://HOST/PATH, or name {host} in --webhook-allow"
            )
        if len(settings.secret) < MIN_SECRET:
            raise StartRefused(f"--webhook-secret-file: at least {MIN_SECRET} bytes are needed")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        if not self._guard.allows(host, host):
            raise StartRefused(f"--webhook: the address {host} is not public; see --webhook-allow")

    def offer(self, event: Event) -> None:
        """Take an event; never waits."""
        if self._waiting.full():
            self.dropped += 1
        else:
            self._waiting.put_nowait(event)

    async def run(self) -> None:
        """Send what is offered, until cancelled."""
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._guard), use_dns_cache=False, ssl=self._tls, force_close=True
        )
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar) as session:
            while True:
                await self._deliver(session, await self._waiting.get())

    async def _deliver(self, session: aiohttp.ClientSession, event: Event) -> None:
        body = json.dumps(
            {"type": f"meshpy.{event.kind}", "timestamp": event.at_s, "data": event.to_json()}
        ).encode()
        pause_s = FIRST_PAUSE_S
        for number in range(TRIES):
            why = await self._post(session, f"meshpy-{event.number}-{int(event.at_s)}", body)
            if not why:
                self.sent += 1
                return
            if number == TRIES - 1:
                self.failed += 1
                log.warning("event %d was not taken by the webhook: %s", event.number, why)
                return
            await asyncio.sleep(pause_s * (0.5 + self._draw()))
            pause_s *= 2

    async def _post(self, session: aiohttp.ClientSession, ident: str, body: bytes) -> str:
        """Why it was not taken; empty when it was."""
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "meshpy",
            "webhook-id": ident,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._settings.secret, ident, now, body),
        }
        try:
            async with session.post(
                self._settings.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return "" if 200 <= answer.status < 300 else f"it answered {answer.status}"
        except (aiohttp.ClientError, OSError, TimeoutError, KeysError) as error:
            refused = error.__cause__ or error.__context__
            return str(refused if isinstance(refused, KeysError) else error) or type(error).__name__
