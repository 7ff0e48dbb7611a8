"""The other replicas of the control plane: what they hold is asked of them when an operator asks.

A sidecar speaks to one replica, so each holds a part of what an operator wants to see. The question goes on
as it came, with the operator's own token (every replica knows it), to servers that prove to be the control
plane; `ALONE` says that only the asked one's part is wanted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from certs.spiffe import SpiffeId
from certs.tls import anonymous_context, judged, verify_peer
from control_plane.signing import Signing
from meshpy.model.names import CONTROL_PLANE, host_port

__all__ = ["ALONE", "ANSWER_S", "Siblings", "Told", "addresses_of"]

log = logging.getLogger(__name__)

ALONE = "Meshpy-Replica"
ANSWER_S = 3.0
CONNECT_S = 1.0
LOOK_UP_S = 2.0
NOT_KNOWN_S = 30.0
"""How long a name that did not resolve is not looked up again."""
Addresses = Callable[[], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Told:
    """What the others answered.

    Args:
        answers: the JSON of each that has something to say.
        silent: who did not answer, with the reason.
        ignorant: who does not know what was asked for.
    """

    answers: tuple[dict[str, Any], ...] = ()
    silent: tuple[str, ...] = ()
    ignorant: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """Whose part is not in the answers, with the reason."""
        return [*self.silent, *(f"{each}: its release does not tell this" for each in self.ignorant)]


class Siblings:
    """Args:
    addresses: where the others are, as of now: `HOST:PORT`.
    signing: whom the mesh believes in; None speaks without TLS, on loopback.
    """

    def __init__(self, addresses: Addresses, signing: Signing | None) -> None:
        self._addresses, self._signing = addresses, signing
        self._context: tuple[str, ssl.SSLContext] | None = None

    async def others(self) -> Sequence[str]:
        """Where the other replicas are."""
        return await self._addresses()

    async def ask(self, request: web.Request, path: str = "", timeout_s: float = ANSWER_S) -> Told:
        """A question to every other replica; nobody is asked for a replica that asks.

        Args:
            path: what is asked for; empty: what the request asked for.
            timeout_s: how long their answer may take.
        """
        if ALONE in request.headers:
            return Told()
        path = path or request.rel_url.raw_path_qs
        others = await self.others()
        if not others:
            return Told()
        timeout = aiohttp.ClientTimeout(total=timeout_s + CONNECT_S, sock_connect=CONNECT_S)
        headers = {"Authorization": request.headers.get("Authorization", ""), ALONE: "alone"}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            found = await asyncio.gather(*(self._one(session, each, path) for each in others))
        answers = tuple(each for each in found if isinstance(each, dict) and each)
        ignorant = tuple(each for each, answer in zip(others, found, strict=True) if answer == {})
        return Told(answers, tuple(each for each in found if isinstance(each, str)), ignorant)

    async def _one(self, session: aiohttp.ClientSession, address: str, path: str) -> dict[str, Any] | str:
        """Its answer; empty when what was asked for is not there; a text says why there is none."""
        scheme = "http" if self._signing is None else "https"
        url = f"{scheme}://{address}{path}"
        try:
            async with session.get(url, ssl=self._tls()) as answer:
                if answer.status == 404:
                    return {}
                body = await answer.json(content_type=None)
                if answer.status == 200 and isinstance(body, dict):
                    return body
                return f"{address}: {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return f"{address}: {str(error) or type(error).__name__}"

    def _tls(self) -> ssl.SSLContext | bool:
        signing = self._signing
        if signing is None:
            return True
        if self._context is None or self._context[0] != signing.bundle_id:
            trust_domain = signing.trust_domain
            expected = frozenset({SpiffeId(trust_domain, CONTROL_PLANE.spiffe_path)})
            context = judged(
                anonymous_context(signing.bundle, alpn=("http/1.1",)),
                lambda tls: verify_peer(tls, trust_domain, datetime.now(UTC), expected=expected),
            )
            self._context = signing.bundle_id, context
        return self._context[1]


def addresses_of(name: str, port: int) -> Addresses:
    """Whoever is behind a DNS name now, but for ourselves; nobody where it is empty or not known."""

    silent_until_s = 0.0

    async def found() -> Sequence[str]:
        nonlocal silent_until_s
        loop = asyncio.get_running_loop()
        if not name or loop.time() < silent_until_s:
            return ()
        try:
            async with asyncio.timeout(LOOK_UP_S):
                known = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError) as error:
            # An engine's resolver may take ten seconds, and a thread, to say no.
            silent_until_s = loop.time() + NOT_KNOWN_S
            log.warning("other replicas are not found as %s: %s", name, str(error) or "no answer in time")
            return ()
        hosts = sorted({str(each[4][0]) for each in known})
        return [host_port(host, port) for host in hosts if not _is_own(host)]

    return found


def _is_own(host: str) -> bool:
    """Only an address of this machine can be bound."""
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
