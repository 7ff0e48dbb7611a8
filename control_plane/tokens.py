"""Join tokens: what lets a sidecar ask for its first certificate.

A token is a claim (service, id, time of issue) with an HMAC-SHA256 under the join key; nothing is stored.
It proves which service its holder may become, no more: on a Swarm the Docker API must agree (`attest`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from control_plane.append_log import AppendLog
from control_plane.errors import BadRequest, Forbidden, StartRefused, Unauthenticated
from meshpy.model.names import ROOT_NAMESPACE, ServiceName

__all__ = ["JoinToken", "JoinTokens", "checked_service"]

VERSION = "mj1"
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
    """A token's claim, verified."""

    service: ServiceName
    id: str
    issued: datetime


class JoinTokens:
    """Makes and reads tokens under one key.

    Args:
        key: at least 32 bytes.
        revocations: where revoked ids are kept.

    Raises:
        StartRefused: the key is too short, or the list of revocations is damaged.
    """

    def __init__(self, key: bytes, revocations: AppendLog) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise StartRefused(f"the join key has {len(key)} bytes; it needs {MIN_KEY_BYTES} random ones")
        self._key = hmac.digest(key, PURPOSE + VERSION.encode(), hashlib.sha256)
        self._log = revocations
        self._revoked = {str(record.get("id", "")) for record in revocations.records()}

    def issue(self, service: ServiceName, now: datetime) -> str:
        """A new token.

        Raises:
            Forbidden: the service is part of the control plane.
        """
        if service.namespace == ROOT_NAMESPACE:
            raise Forbidden(f"no token is made for {service}: {ROOT_NAMESPACE} is the mesh itself")
        claim = {"s": str(service), "i": secrets.token_hex(8), "t": int(now.timestamp())}
        body = _b64(json.dumps(claim, separators=(",", ":")).encode())
        return f"{VERSION}.{body}.{_b64(self._mac(body))}"

    def read(self, token: object) -> JoinToken:
        """Verify a token.

        Raises:
            Unauthenticated: it is no token of ours, altered, of an unknown version, or revoked.
        """
        if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise Unauthenticated("a join token is needed")
        version, _, rest = token.partition(".")
        body, _, mac = rest.partition(".")
        if version != VERSION:
            raise Unauthenticated("the join token is of an unknown version")
        if not hmac.compare_digest(_b64(self._mac(body)).encode(), mac.encode()):
            raise Unauthenticated("the join token was not made by this control plane")
        try:
            claim = json.loads(_unb64(body))
            found = JoinToken(
                checked_service(claim["s"]), str(claim["i"]), datetime.fromtimestamp(claim["t"], UTC)
            )
        except (ValueError, KeyError, TypeError, OverflowError, BadRequest) as error:
            raise Unauthenticated("the join token carries no claim") from error
        if found.id in self._revoked:
            raise Unauthenticated("the join token was revoked")
        return found

    def revoke(self, ids: Iterable[str], now: datetime) -> None:
        """Refuse these tokens from now on. Blocks until it is on disk.

        Raises:
            StoreError: the disk refuses; nothing was revoked.
        """
        for each in ids:
            if each not in self._revoked:
                self._log.append({"id": each, "at": now.isoformat()})
                self._revoked.add(each)

    def _mac(self, body: str) -> bytes:
        return hmac.digest(self._key, body.encode(), hashlib.sha256)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
