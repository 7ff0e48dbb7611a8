"""TLS of one connection, between the loop's transport and the protocol that speaks through it.

Hot file: the loop's own TLS spells the peer's certificate out for each handshake, of which nothing is used
here, holds a buffer of 256 KiB for each connection and costs more for each record. To the loop this is a
protocol, to the protocol above it is a transport, in all but the classes: those would cost its compiled twin
the speed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Final, cast

from proxy.net.bulk import write_parts
from proxy.net.records import RECORD_BYTES, Records
from proxy.net.timers import Timer

__all__ = ["Secured"]

_GOODBYE_S: Final = 30.0
"""How long the peer has to say goodbye as well; what it sends until then is read, so that nothing resets."""

_WAITING: Final = 0
_SHAKING: Final = 1
_SAID: Final = 2
"""We have said goodbye, and read on."""
_OPEN: Final = 3
_HEARD: Final = 4
"""The peer has said it, and reads on."""
_CLOSING: Final = 5
_LOST: Final = 6

_CUT_OFF: Final = "the peer ended the connection within the TLS handshake"
_NO_GOODBYE: Final = "the peer ended the connection without a goodbye"

_NOBODY: Final = asyncio.Protocol()


class Secured:
    """Args:
        build: makes the protocol above; called once the handshake is done.
        on_open: told after that protocol has its transport.
        on_failed: told why the handshake failed; no protocol was made then.
        server_name: what a client asks for; None for a server.

    Attributes:
        limit: runs until the handshake is over.
        is_half_closable: whether a goodbye (close_notify) ends one direction only, as TLS 1.3 has it (RFC
            8446 §6.1). Set by the protocol above, before the first end, when both peers have agreed: many
            take a goodbye for the end of both directions.

    Invariants: the protocol above is told of its connection once, and then of its end once. A peer that ends
    without a goodbye has lost its connection, so that no one takes what was cut off for whole.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ssl.SSLContext,
        build: Callable[[], asyncio.Protocol],
        *,
        on_open: Callable[[], None] | None = None,
        on_failed: Callable[[Exception], None] | None = None,
        server_name: str | None = None,
        is_server: bool = False,
    ) -> None:
        self._loop = loop
        self._build = build
        self._on_open = on_open
        self._on_failed = on_failed
        self._records = Records(context, server_name, is_server=is_server)
        self._raw: asyncio.Transport = cast("asyncio.Transport", None)
        self._protocol: asyncio.Protocol = _NOBODY
        self._state = _WAITING
        self._is_paused = False
        self._is_goodbye_due = False
        self.is_half_closable = False
        self._error: Exception | None = None
        self.limit: Timer | None = None
        self._goodbye: asyncio.TimerHandle | None = None

    # -- the protocol that the loop knows

    def as_protocol(self) -> asyncio.Protocol:
        """For the loop, which asks for the methods and not for the class."""
        return cast("asyncio.Protocol", self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection below is there."""
        self._raw = cast("asyncio.Transport", transport)
        if self._state != _WAITING:
            self._raw.abort()
            return
        self._state = _SHAKING
        self._shake()

    def data_received(self, data: bytes) -> None:
        """Records have come, or parts of them."""
        self._records.put(data)
        if _SAID <= self._state <= _OPEN:
            self._deliver(len(data))
        elif self._state == _SHAKING:
            self._shake()
        elif self._state == _CLOSING:
            self._await_goodbye()
        elif self._state == _HEARD:
            self._records.drop()  # what follows a goodbye does not count (RFC 8446 §6.1)

    def eof_received(self) -> bool:
        """The peer's end of the connection below, with or without a goodbye before."""
        self.fail(ConnectionResetError(_CUT_OFF))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection below has ended."""
        if self._goodbye is not None:
            self._goodbye.cancel()
            self._goodbye = None
        self.fail(exc or ConnectionResetError(_CUT_OFF))
        if exc is None and self.is_half_closable and _SAID <= self._state <= _OPEN:
            exc = ConnectionResetError(_NO_GOODBYE)
        self._state = _LOST
        # Whoever ended is held by nobody here: two that hold each other wait for the collector.
        protocol, self._protocol = self._protocol, _NOBODY
        protocol.connection_lost(self._error or exc)

    def pause_writing(self) -> None:
        """The peer does not read as fast as is written."""
        if _SAID <= self._state <= _HEARD:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        if _SAID <= self._state <= _HEARD:
            self._protocol.resume_writing()

    # -- the handshake

    def expire(self) -> None:
        """The handshake has taken too long, if it still goes on."""
        self.fail(ConnectionAbortedError("the TLS handshake takes too long"))

    def _shake(self) -> None:
        try:
            is_done = self._records.shake()
        except ssl.SSLError as error:
            self._flush()  # the alert that tells the peer why
            self.fail(error)
            return
        self._flush()
        if not is_done:
            return
        self._state = _OPEN
        build, on_open = self._build, self._on_open
        self._end_handshake()
        protocol = self._protocol = build()
        protocol.connection_made(cast("asyncio.Transport", self))
        if on_open is not None:
            on_open()
        if self._records.has_more():
            # After whoever waited for the handshake has had its turn.
            self._records.is_partial = True
            self._loop.call_soon(self._deliver_held)

    def _end_handshake(self) -> None:
        self._build, self._on_open, self._on_failed = asyncio.Protocol, None, None
        if self.limit is not None:
            self.limit.cancel()

    def fail(self, error: Exception) -> None:
        """End the handshake; without effect once it is over."""
        if self._state > _SHAKING:
            return
        was_made = self._state == _SHAKING
        self._state = _LOST
        on_failed = self._on_failed
        self._end_handshake()
        if was_made:
            self._raw.close()
        if on_failed is not None:
            on_failed(error)

    # -- reading

    def _deliver_held(self) -> None:
        is_read = _SAID <= self._state <= _OPEN
        if is_read and not self._is_paused and self._records.has_more():
            self._deliver(RECORD_BYTES)

    def _deliver(self, size: int) -> None:
        """Hand on what is there, of which `size` has just come."""
        records = self._records
        if self._is_paused:
            records.is_partial = True
            return
        data = records.read(size)
        if records.error is not None:
            self._break(records.error)
        if records.has_to_send():
            self._flush()
        if data:
            self._protocol.data_received(data)
        if records.is_over or self._is_goodbye_due:
            self._part(is_over=records.is_over)

    def _part(self, *, is_over: bool) -> None:
        """All that has come is read: the peer's goodbye is passed on, or ours can be said."""
        if not is_over:
            self._say_goodbye()
        elif _SAID <= self._state <= _OPEN:
            if self._protocol.eof_received() and self.is_half_closable and self._state == _OPEN:
                self._state = _HEARD
            else:
                self.close()

    def _say_goodbye(self) -> None:
        # OpenSSL looks for the peer's goodbye as well, and would break on content that comes before it.
        self._is_goodbye_due = self._state == _SAID and self._records.has_more()
        if self._state == _SAID and not self._is_goodbye_due and self._unwrap():
            self.close()

    def _unwrap(self) -> bool:
        """Say goodbye; whether the peer has said it too."""
        is_over = self._records.part()
        self._flush()
        return is_over

    def _break(self, error: Exception) -> None:
        """What has come is no TLS, or the peer says that ours is none."""
        if self._error is None:
            self._error = error
        self._state = _CLOSING
        self._flush()
        self._raw.abort()

    # -- the transport that the protocol above knows

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; what the peer does not take yet waits in the transport below."""
        if not _OPEN <= self._state <= _HEARD or not data:
            return
        try:
            records = self._records.write(data)
        except ssl.SSLError as error:
            self._break(error)
            return
        write_parts(self._raw, (records,))

    def writelines(self, parts: Sequence[bytes]) -> None:
        """Send, joined: a record for each would cost more."""
        self.write(b"".join(parts))

    def _flush(self) -> None:
        data = self._records.take()
        if data and not self._raw.is_closing():
            self._raw.write(data)

    def close(self) -> None:
        """Send what waits, say goodbye, and end when the peer has said it too."""
        if self._state <= _SHAKING:
            self.abort()
        elif self._state < _CLOSING:
            self._state = _CLOSING
            self._goodbye = self._loop.call_later(_GOODBYE_S, self._raw.abort)
            if self._is_paused:
                self._is_paused = False
                self._raw.resume_reading()
            self._await_goodbye()

    def _await_goodbye(self) -> None:
        """Drop what still comes until the peer's goodbye, and say ours."""
        if self._records.skip() or self._unwrap():
            self._flush()
            self._raw.close()

    def abort(self) -> None:
        """End at once; what waits to be sent is dropped."""
        if self._state <= _SHAKING:
            self.fail(ConnectionAbortedError())
        elif self._state != _LOST:
            self._state = _CLOSING
            self._raw.abort()

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return not _SAID <= self._state <= _HEARD or self._raw.is_closing()

    def pause_reading(self) -> None:
        """Take no more from the peer for now."""
        if _SAID <= self._state <= _OPEN and not self._is_paused:
            self._is_paused = True
            if not self._raw.is_closing():
                self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Go on; first with what was there already."""
        if _SAID <= self._state <= _HEARD and self._is_paused:
            self._is_paused = False
            if not self._raw.is_closing():
                self._raw.resume_reading()
            if self._records.has_more():
                self._loop.call_soon(self._deliver_held)

    def is_reading(self) -> bool:
        """Whether it is not paused."""
        return _SAID <= self._state <= _OPEN and not self._is_paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """From how many waiting bytes on the protocol is paused."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """What waits for the peer, encrypted."""
        return self._raw.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """Whether a goodbye is for one direction only."""
        return self.is_half_closable

    def write_eof(self) -> None:
        """Send what waits and say goodbye; what the peer sends until its own is still read."""
        if not self.is_half_closable or self._state == _HEARD:
            self.close()
        elif self._state == _OPEN:
            self._state = _SAID
            self._say_goodbye()

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        """Somebody else goes on with the connection."""
        if self._state != _LOST:
            self._protocol = protocol

    def get_protocol(self) -> asyncio.Protocol:
        """Who reads now."""
        return self._protocol

    def get_extra_info(self, name: str, default: object = None) -> object:
        """As transports know it: `ssl_object`, and what the connection below can tell."""
        if name == "ssl_object":
            return self._records.tls
        return self._raw.get_extra_info(name, default)
