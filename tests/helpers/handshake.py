"""A whole TLS conversation in memory: real OpenSSL on both sides, no sockets, no waiting."""

from __future__ import annotations

import ssl
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from certs.errors import PeerRefused
from certs.spiffe import SpiffeId

_SECRET = b"bytes for the application"


@dataclass(frozen=True)
class Outcome:
    """What our side did: the peer it accepted or why not, and the application bytes it let in and out."""

    peer: SpiffeId | None
    error: Exception | None
    received: bytes
    sent: bytes
    version: str | None


class End:
    """One end of a connection."""

    def __init__(
        self, context: ssl.SSLContext, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, server: bool
    ) -> None:
        self.tls = context.wrap_bio(incoming, outgoing, server_side=server)
        self.is_open = False
        self.error: Exception | None = None
        self.received = b""

    def step(self) -> None:
        if self.error is not None or self.is_open:
            return
        try:
            self.tls.do_handshake()
            self.is_open = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.error = error


def converse(
    ours: ssl.SSLContext,
    theirs: ssl.SSLContext,
    check: Callable[[ssl.SSLObject], SpiffeId],
    *,
    we_serve: bool,
) -> Outcome:
    """Handshake, let `check` judge, and only then exchange bytes; the peer sends as early as it can."""
    to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
    us = End(ours, to_us, to_them, server=we_serve)
    them = End(theirs, to_them, to_us, server=not we_serve)
    peer: SpiffeId | None = None
    for _ in range(8):
        was_open = them.is_open
        them.step()
        if them.is_open and not was_open:
            them.tls.write(_SECRET)
        us.step()
    if us.is_open:
        try:
            peer = check(us.tls)
        except PeerRefused as error:
            us.error = error
    if peer is not None:
        us.received = us.tls.read(len(_SECRET))
        us.tls.write(_SECRET)
        them.received = them.tls.read(len(_SECRET))
        assert us.received == them.received == _SECRET
    return Outcome(peer, us.error, us.received, them.received, us.tls.version())


def careless_context(
    *,
    server: bool,
    chain_pem: bytes = b"",
    key_pem: bytes = b"",
    version: ssl.TLSVersion | None = None,
) -> ssl.SSLContext:
    """A peer that checks nothing and offers everything, weak algorithms and old versions included."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    if version is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = version
            context.maximum_version = version
    if chain_pem:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "both.pem"
            path.write_bytes(key_pem + chain_pem)
            context.load_cert_chain(path)
    return context
