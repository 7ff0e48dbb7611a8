"""Join tokens: what lets a sidecar ask for its first certificate.

A token is a claim (service, id, time of issue) with an HMAC-SHA256 under the join key. On a Swarm it proves
which service its holder may become, no more: the Docker API must agree (`attest`), so every task may use it.
Outside there is nobody to agree: there a token ends, is for one certificate, and may name the address that it
is for (version 2). What became of tokens is in the `token_ledger`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from control_plane.errors import BadRequest, Forbidden, StartRefused, Unauthenticated
from meshpy.model.names import ROOT_NAMESPACE, ServiceName

__all__ = ["JoinToken", "JoinTokens", "checked_service"]

VERSION, VERSION_ONCE = "mj1", "mj2"
"""The second ends or is for one use; a release that does not know that refuses it."""
MIN_KEY_BYTES = 32
MAX_TOKEN_CHARS = 1024
PURPOSE = b"meshpy join token\x00"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
"""What a Swarm takes as a name (at most 63 characters) and SPIFFE as a path segment."""


def checked_service(text: object) -> ServiceName:
    """Read `namespace/service`; nothing else can become part of an identity or of a log line.

    Raises:
        BadRequest: it is anything else.
    """
    parts = text.split("/") if isinstance(text, str) else []
    if len(parts) != 2 or not all(_NAME.fullmatch(part) for part in parts):
        raise BadRequest(
            "`service` is NAMESPACE/SERVICE, each of letters, digits, '-', '_' and '.', at most 63"
        )
    return ServiceName(parts[0], parts[1])


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token's claim, verified.

    Args:
        is_once: for one certificate, outside the Swarm.
        address: where alone it may be used from; empty is anywhere.
    """

    service: ServiceName
    id: str
    issued: datetime
    expires: datetime | None = None
    is_once: bool = False
    address: str = ""


class JoinTokens:
    """Makes and reads tokens under one key.

    Args:
        key: at least 32 bytes.

    Raises:
        StartRefused: the key is too short.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise StartRefused(f"the join key has {len(key)} bytes; it needs {MIN_KEY_BYTES} random ones")
        self._keys = {
            version: hmac.digest(key, PURPOSE + version.encode(), hashlib.sha256)
            for version in (VERSION, VERSION_ONCE)
        }

    def issue(
        self,
        service: ServiceName,
        now: datetime,
        *,
        ttl_s: int | None = None,
        is_once: bool = False,
        address: str = "",
    ) -> str:
        """A new token.

        Args:
            ttl_s: how long it may be used; None is for ever.

        Raises:
            Forbidden: the service is part of the control plane.
        """
        if service.namespace == ROOT_NAMESPACE:
            raise Forbidden(f"no token is made for {service}: {ROOT_NAMESPACE} is the mesh itself")
        claim: dict[str, str | int] = {
            "s": str(service),
            "i": secrets.token_hex(8),
            "t": int(now.timestamp()),
        }
        version = VERSION
        if ttl_s is not None or is_once or address:
            version = VERSION_ONCE
            claim |= {"o": int(is_once), "a": address}
            claim |= {"e": int(now.timestamp()) + ttl_s} if ttl_s is not None else {}
        body = _b64(json.dumps(claim, separators=(",", ":")).encode())
        return f"{version}.{body}.{_b64(self._mac(version, body))}"

    def read(self, token: object, now: datetime) -> JoinToken:
        """Verify a token.

        Raises:
            Unauthenticated: it is no token of ours, altered, of an unknown version, or has ended.
        """
        if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise Unauthenticated("a join token is needed")
        version, _, rest = token.partition(".")
        body, _, mac = rest.partition(".")
        if version not in self._keys:
            raise Unauthenticated("the join token is of an unknown version")
        if not hmac.compare_digest(_b64(self._mac(version, body)).encode(), mac.encode()):
            raise Unauthenticated("the join token was not made by this control plane")
        try:
            claim = json.loads(_unb64(body))
            found = JoinToken(
                checked_service(claim["s"]),
                str(claim["i"]),
                datetime.fromtimestamp(claim["t"], UTC),
                datetime.fromtimestamp(claim["e"], UTC) if "e" in claim else None,
                bool(claim.get("o", 0)),
                str(claim.get("a", "")),
            )
        except (ValueError, KeyError, TypeError, OverflowError, BadRequest) as error:
            raise Unauthenticated("the join token carries no claim") from error
        if found.expires is not None and found.expires <= now:
            raise Unauthenticated(f"the join token ended at {found.expires.isoformat()}; make another")
        return found

    def _mac(self, version: str, body: str) -> bytes:
        return hmac.digest(self._keys[version], body.encode(), hashlib.sha256)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
