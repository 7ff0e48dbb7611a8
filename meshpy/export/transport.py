"""One request to a collector and what came of it, over HTTP or gRPC."""

from __future__ import annotations

import gzip
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol as Interface
from typing import TypeAlias

import aiohttp

from meshpy.otlp.settings import Destination, OtlpError, Protocol
from meshpy.otlp.traces import read_rejected
from meshpy.protobuf import BadMessageError

__all__ = ["Again", "Outcome", "Refused", "Taken", "Transport", "open_transport", "taken"]

_AGAIN = frozenset((429, 502, 503, 504))
"""OTLP specification, Retryable Response Codes."""
_MAX_ANSWER = 64 * 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """`rejected`: so many items the collector did not want; `why` without any is a warning."""

    rejected: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """It may be sent again, not before `after_s` where the collector says so."""

    why: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """It will never be taken."""

    why: str


Outcome: TypeAlias = Taken | Again | Refused


class Transport(Interface):
    async def send(self, body: bytes) -> Outcome:
        """Send one request; every failure is an outcome."""

    async def close(self) -> None:
        """End the connection."""


def open_transport(destination: Destination) -> Transport:
    """Nothing is connected yet.

    Raises:
        OtlpError: a certificate or key cannot be read.
    """
    tls = _tls(destination)
    if destination.protocol is Protocol.GRPC:
        from meshpy.export.grpc import GrpcTransport  # noqa: PLC0415 - few ask for it

        return GrpcTransport(destination, tls)
    return HttpTransport(destination, tls)


def taken(answer: bytes) -> Outcome:
    """What a good answer says."""
    try:
        return Taken(*read_rejected(answer))
    except BadMessageError as error:
        return Refused(f"the answer is no message of OTLP: {error}")


def _tls(destination: Destination) -> ssl.SSLContext | None:
    if not destination.url.startswith("https:"):
        return None
    roots = destination.certificate
    try:
        context = ssl.create_default_context(cafile=str(roots) if roots is not None else None)
        if destination.client_certificate is not None:
            context.load_cert_chain(destination.client_certificate, destination.client_key)
    except (OSError, ssl.SSLError) as error:
        files = (roots, destination.client_certificate, destination.client_key)
        named = ", ".join(str(each) for each in files if each is not None)
        raise OtlpError(f"the collector's TLS files cannot be used ({named}): {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class HttpTransport:
    """OTLP/HTTP with binary protobuf: no redirects, no cookies, no proxies of the environment."""

    def __init__(self, destination: Destination, tls: ssl.SSLContext | None) -> None:
        self._to = destination
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def send(self, body: bytes) -> Outcome:
        headers = {"Content-Type": "application/x-protobuf", "User-Agent": "meshpy", **dict(self._to.headers)}
        if self._to.is_compressed:
            body, headers["Content-Encoding"] = gzip.compress(body, 6), "gzip"
        try:
            async with self._opened().post(
                self._to.url, data=body, headers=headers, allow_redirects=False, ssl=self._tls or True
            ) as answer:
                content = await answer.content.read(_MAX_ANSWER)
                if 200 <= answer.status < 300:  # 200 by the specification, 202 by gateways before a collector
                    return taken(content) if answer.status == 200 else Taken()
                why = f"{answer.status} {content[:200].decode('latin-1')!r}"
                if answer.status in _AGAIN:
                    return Again(why, _pause_s(answer.headers.get("Retry-After", "")))
                return Refused(why)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Again(str(error) or type(error).__name__)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._to.timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _pause_s(text: str) -> float | None:
    """Retry-After: seconds, or a date."""
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
