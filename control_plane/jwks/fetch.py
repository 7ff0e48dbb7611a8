"""One fetch of a key set: no redirects, no proxies, no cookies, little time and little memory."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from control_plane.jwks.errors import KeysError
from control_plane.jwks.guard import Guard, GuardedResolver
from meshpy.jose import JwksError, parse_jwks
from meshpy.jose.encoding import strict_object

__all__ = ["MAX_BYTES", "Fetcher"]

MAX_BYTES = 1024 * 1024
MAX_TIMEOUT_S = 30.0
_DISCOVERY = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Args:
    tls: with the roots that servers are verified by.
    """

    guard: Guard
    tls: ssl.SSLContext

    async def fetch(self, uri: str, timeout_s: float) -> str:
        """The key set behind a URI; of an OpenID configuration, the one that it names.

        Args:
            timeout_s: for everything; at most MAX_TIMEOUT_S.

        Raises:
            KeysError: the text says why.
        """
        timeout = aiohttp.ClientTimeout(total=min(timeout_s, MAX_TIMEOUT_S))
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self.guard), use_dns_cache=False, ssl=self.tls, force_close=True
        )
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar) as session:
            text = await self._get(session, uri)
            if urlsplit(uri).path.endswith(_DISCOVERY):
                text = await self._get(session, _named_by(text, uri))
        try:
            parse_jwks(text)
        except JwksError as error:
            raise KeysError(str(error)) from None
        return text

    async def _get(self, session: aiohttp.ClientSession, uri: str) -> str:
        self._check(uri)
        headers = {"Accept": "application/json, application/jwk-set+json", "User-Agent": "meshpy"}
        try:
            async with session.get(uri, headers=headers, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise KeysError(f"the answer is {answer.status}, redirects are not followed")
                return await _text_of(answer)
        except TimeoutError:
            raise KeysError("no answer in time") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise KeysError(f"the server's certificate is refused: {error.certificate_error}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = error.__cause__ or error.__context__
            raise KeysError(str(refused if isinstance(refused, KeysError) else error)) from None

    def _check(self, uri: str) -> None:
        """What is known of a URL before it is asked; names are judged by what they resolve to."""
        parts = urlsplit(uri)
        host = parts.hostname or ""
        if parts.scheme != "https" and not (parts.scheme == "http" and self.guard.is_trusted(host)):
            raise KeysError(f"{uri} is no https URL, and --jwks-allow does not name {host}")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        if not self.guard.allows(host, host):
            raise KeysError(f"the address {host} is not public; see --jwks-allow")


async def _text_of(answer: aiohttp.ClientResponse) -> str:
    data = bytearray()
    async for chunk in answer.content.iter_chunked(64 * 1024):
        data += chunk
        if len(data) > MAX_BYTES:
            raise KeysError(f"the answer is longer than {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise KeysError("the answer is no UTF-8") from None


def _named_by(text: str, uri: str) -> str:
    """The `jwks_uri` of an OpenID configuration (OpenID Connect Discovery §3)."""
    try:
        configuration = strict_object(text)
    except ValueError as error:
        raise KeysError(f"the OpenID configuration {error}") from None
    found, issuer = configuration.get("jwks_uri"), configuration.get("issuer")
    if issuer != uri.removesuffix(_DISCOVERY) and issuer != uri.removesuffix(_DISCOVERY) + "/":
        raise KeysError("the OpenID configuration is that of another issuer (§4.3)")
    if not isinstance(found, str):
        raise KeysError("the OpenID configuration has no jwks_uri")
    return found
