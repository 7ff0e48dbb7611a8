"""TLS of one connection without its transport: what has come is put in, what is to be sent is taken out.

Hot file: two calls of each request.
"""

from __future__ import annotations

import ssl
from typing import Final

__all__ = ["RECORD_BYTES", "Records"]

RECORD_BYTES: Final = 16 * 1024
"""The most that one record holds (RFC 8446 §5.1): a read of so much leaves nothing of it behind."""


class Records:
    """Args:
        server_name: what a client asks for; None for a server.

    Attributes:
        tls: for whoever wants to know what was agreed.
        is_partial: part of a record may be held, of which no caller knows the size.
        is_over: the peer has said goodbye, as far as was read.
        error: what has come is no TLS, or the peer says that ours is none.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str | None, *, is_server: bool) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls: ssl.SSLObject = context.wrap_bio(
            self._incoming, self._outgoing, server_side=is_server, server_hostname=server_name or None
        )
        # Without the layer of Python around it, where there is none to be had.
        self._bare: ssl.SSLObject = getattr(self.tls, "_sslobj", self.tls)
        self.is_partial = self.is_over = False
        self.error: ssl.SSLError | None = None

    def put(self, data: bytes) -> None:
        """Records have come, or parts of them."""
        self._incoming.write(data)

    def take(self) -> bytes:
        """What is to be sent; b"" is nothing."""
        return self._outgoing.read()

    def drop(self) -> None:
        """What has come does not count."""
        self._incoming.read()

    def has_more(self) -> bool:
        """Whether something has come that was not read."""
        return self._incoming.pending > 0

    def has_to_send(self) -> bool:
        """Whether `take` has something."""
        return self._outgoing.pending > 0

    def shake(self) -> bool:
        """Go on with the handshake; whether it is done.

        Raises:
            ssl.SSLError: it failed; what is to be sent tells the peer why.
        """
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read(self, size: int) -> bytes:
        """All content that is there, joined: an answer in several records is one to who reads it.

        What ends it is left in `is_over` or `error`.

        Args:
            size: of what has come; no record among it holds more.
        """
        if self.is_partial or size > RECORD_BYTES:
            size = RECORD_BYTES
        first, more = b"", None
        try:
            while True:
                data = self._bare.read(size)
                if not data:
                    self.is_over = True
                    break
                if not first:
                    first = data
                elif more is None:
                    more = [first, data]
                else:
                    more.append(data)
                if not self._incoming.pending:
                    # Nothing is left of a record, nor of the next: not asked for it, OpenSSL cannot say so by
                    # an exception, which costs more than the record.
                    self.is_partial = False
                    break
        except ssl.SSLWantReadError:
            self.is_partial = True
        except ssl.SSLZeroReturnError:
            self.is_over = True
        except ssl.SSLError as error:
            self.error = error
        return first if more is None else b"".join(more)

    def write(self, data: bytes | bytearray | memoryview) -> bytes:
        """Records of `data`, which is not empty.

        Raises:
            ssl.SSLError: nothing can be sent any more.
        """
        written = self._bare.write(data)
        if written < len(data):  # one call takes a bounded part of a large block
            rest = memoryview(data)[written:]
            while rest:
                rest = rest[self._bare.write(rest) :]
        return self._outgoing.read()

    def part(self) -> bool:
        """Say goodbye; whether the peer has said it too, or breaks."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            pass
        return True

    def skip(self) -> bool:
        """Drop content that has come; whether the peer has said goodbye, or breaks."""
        try:
            while self.tls.read(RECORD_BYTES):
                pass
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            return True
        return False
