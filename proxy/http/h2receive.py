"""The receiving half of an HTTP/2 connection: frames, content, heads.

Hot file: one frame costs one call and one dictionary look-up. An error of the connection puts GOAWAY into
`out` and sets `error`: nothing is read after it. Errors of a stream reset it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from proxy.http.events import END, Body, End, Headers
from proxy.http.h2control import CONTROL_READERS, ConnectionFault, Control, H2Event, Reset
from proxy.http.h2frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_H2_LIMITS,
    DEFAULT_WINDOW,
    FRAME_HEAD,
    MAX_WINDOW,
    ErrorCode,
    Flag,
    FrameType,
    H2Limits,
    reset_frame,
    window_frame,
)
from proxy.http.h2heads import Malformed, read_trailers
from proxy.http.h2stream import Stream
from proxy.http.head import RequestHead, ResponseHead
from proxy.http.hpack import Decoder, HpackError, Oversized

__all__ = ["NewStream", "Receiver"]

_END_STREAM, _END_HEADERS = int(Flag.END_STREAM), int(Flag.END_HEADERS)
_PADDED, _PRIORITY = int(Flag.PADDED), int(Flag.PRIORITY)
_DATA, _HEADERS, _CONTINUATION = int(FrameType.DATA), int(FrameType.HEADERS), int(FrameType.CONTINUATION)
_COPY_BELOW: Final = 4096
_RESET_MEMORY: Final = 128
_TRAILERS: Final = 4
"""Beside the keys of heads, which are 0 to 3."""


NewStream = Callable[[int, int, int, float], Stream]


class Receiver(Control):
    """What both roles share of receiving.

    Args:
        new_stream: makes a stream from its number, both windows and the time.
    """

    def __init__(self, limits: H2Limits = DEFAULT_H2_LIMITS, new_stream: NewStream = Stream) -> None:
        super().__init__(limits)
        self.decoder = Decoder(limits.head_bytes, limits.fields)
        self.error: ConnectionFault | None = None
        self._new_stream = new_stream
        self._held = bytearray()
        self._window = DEFAULT_WINDOW
        self._credit = 0
        self._block: bytearray | None = None
        self._block_stream = self._block_flags = self._continuations = 0
        self._is_preface_read = False
        self._reset_by_us: deque[int] = deque(maxlen=_RESET_MEMORY)
        self._since = 0.0
        self._over_early = 0
        self._heads: dict[tuple[bytes, int], RequestHead | ResponseHead | End] = {}
        self._heads_of: dict[bytes, Headers] | None = None

    # -- bytes

    def receive(self, data: bytes, now: float) -> list[tuple[Stream, H2Event]]:
        """Read the next bytes of the connection."""
        events = self._events = []
        if self.error is not None:
            return events
        self._now = now
        if now - self._since > self.limits.idle_frames_s:
            self._since = now
            self._allowance = self.limits.idle_frames
        if self._held:
            self._held += data
            data = bytes(self._held)
            self._held.clear()
        try:
            position = self._read(data) if self._is_preface_read else self._read_preface(data)
        except ConnectionFault as error:
            self._fail(error)
            return events
        if position < len(data):
            self._held += data[position:]
        if self._credit >= self.limits.window // 2:
            self.out.append(window_frame(0, self._credit))
            self._window += self._credit
            self._credit = 0
        return events

    @property
    def is_within_head(self) -> bool:
        """Whether the peer owes us the rest of a frame or a header block, or its first SETTINGS."""
        return self._block is not None or bool(self._held) or not self._is_settings_read

    def _fail(self, error: ConnectionFault) -> None:
        self.error = error
        self.is_dead = True
        self.goaway(self.last_peer_stream, error.code, error.reason)

    def _read_preface(self, data: bytes) -> int:
        self._is_preface_read = True
        return self._read(data)

    def _read(self, data: bytes) -> int:
        end = len(data)
        position = 0
        unpack = FRAME_HEAD.unpack_from
        while end - position >= 9:
            high, low, kind, flags, number = unpack(data, position)
            length = high << 8 | low
            if length > DEFAULT_FRAME_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame longer than 16,384 octets")
            start = position + 9
            stop = start + length
            if stop > end:
                break
            number &= MAX_WINDOW
            if self._block is not None and (kind != _CONTINUATION or number != self._block_stream):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
            if kind == _DATA:
                self._on_data(data, start, stop, flags, number)
            elif kind == _HEADERS:
                self._on_headers(data[start:stop], flags, number)
            else:
                self._on_other(kind, data[start:stop], flags, number)
            position = stop
        return position

    def _on_other(self, kind: int, payload: bytes, flags: int, number: int) -> None:
        if not self._is_settings_read and kind != FrameType.SETTINGS:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        reader = _READERS.get(kind)
        if kind != _CONTINUATION:
            self._spend()
        if reader is not None:
            reader(self, payload, flags, number)

    def _spend(self) -> None:
        """One more frame that carries nothing."""
        self._allowance -= 1
        if self._allowance < 0:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    # -- content

    def _on_data(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        length = stop - start
        self._window -= length
        if self._window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more content than the connection's window")
        # The connection's window is given back at once: one stream that is held must not stop the others.
        self._credit += length
        if flags & _PADDED:
            start, stop = self._unpad(data, start, stop)
        stream = self.streams.get(number)
        if stream is None or stream.is_remote_closed:
            self._on_data_after_end(number)
            return
        stream.receive_window -= length
        if stream.receive_window < 0:
            self._break(stream, ErrorCode.FLOW_CONTROL_ERROR, "more content than the stream's window")
            return
        if not stream.is_head_read:
            self._break(stream, ErrorCode.PROTOCOL_ERROR, "content before a head")
            return
        size = stop - start
        is_end = flags & _END_STREAM
        if stream.expected >= 0:
            stream.expected -= size
            if stream.expected < 0 or (is_end and stream.expected):
                self._break(stream, ErrorCode.PROTOCOL_ERROR, "content does not have its announced length")
                return
        elif size and stream.is_bodiless:
            self._break(stream, ErrorCode.PROTOCOL_ERROR, "content where there can be none")
            return
        if size:
            content = data[start:stop] if size < _COPY_BELOW else memoryview(data)[start:stop]
            self._events.append((stream, Body(content)))
            self._allowance += 10
        elif not is_end:
            self._spend()
        if is_end:
            self._events.append((stream, END))
            self._close_remote(stream)
            return
        stream.credit += length
        if not stream.is_held and stream.credit >= self.limits.stream_window // 2:
            self._give_back(stream)

    def _unpad(self, data: bytes, start: int, stop: int) -> tuple[int, int]:
        if start == stop:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without its length")
        padding = data[start]
        if padding >= stop - start:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
        return start + 1, stop - padding

    def _on_data_after_end(self, number: int) -> None:
        if self._is_idle(number):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on a stream that was never opened")
        if number in self.streams:
            self._break(self.streams[number], ErrorCode.STREAM_CLOSED, "DATA after the end of the stream")
        elif number not in self._reset_by_us:
            self._spend()
            self._reset_closed(number)

    def _reset_closed(self, number: int) -> None:
        self._reset_by_us.append(number)
        self.out.append(reset_frame(number, ErrorCode.STREAM_CLOSED))

    def _close_remote(self, stream: Stream) -> None:
        stream.is_remote_closed = True
        if stream.is_local_closed:
            self.drop(stream)

    def _break(self, stream: Stream, code: ErrorCode, reason: str) -> None:
        """Reset a stream for an error of the peer."""
        self.out.append(reset_frame(stream.id, code))
        self._reset_by_us.append(stream.id)
        self.drop(stream)
        self._events.append((stream, Reset(code, is_ours=True, reason=reason)))
        # A peer may have us reset its streams instead of doing so itself (CVE-2025-8671).
        self._count_end(is_early=True)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        if stream.id in self.streams:
            self._reset_by_us.append(stream.id)
        super().reset(stream, code)

    # -- heads

    def _on_headers(self, payload: bytes, flags: int, number: int) -> None:
        if not self._is_settings_read:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if number == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & (_PADDED | _PRIORITY):
            start, stop = self._unpad(payload, 0, len(payload)) if flags & _PADDED else (0, len(payload))
            if flags & _PRIORITY:
                if stop - start < 5:
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a priority cut short")
                if int.from_bytes(payload[start : start + 4]) & MAX_WINDOW == number:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
                start += 5
            payload = payload[start:stop]
        if flags & _END_HEADERS:
            self._on_block(payload, flags, number)
            return
        self._block = bytearray(payload)
        self._block_stream, self._block_flags, self._continuations = number, flags, 0

    def _on_continuation(self, payload: bytes, flags: int, number: int) -> None:
        block = self._block
        if block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        block += payload
        self._continuations += 1
        limits = self.limits
        if len(block) > limits.block_bytes or self._continuations > limits.continuations:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block too long")
        if flags & _END_HEADERS:
            self._block = None
            self._on_block(bytes(block), self._block_flags, number)

    def _decode(self, block: bytes) -> Headers | None:
        """The fields; None when there are too many."""
        try:
            return self.decoder.decode(block)
        except Oversized:
            return None
        except HpackError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from None

    def _on_block(self, block: bytes, flags: int, number: int) -> None:
        raise NotImplementedError

    def _seen(self, block: bytes, key: int) -> RequestHead | ResponseHead | End | None:
        """What an equal block came to before, as long as the table is the same."""
        if self.decoder.known is not self._heads_of:
            self._heads.clear()
            self._heads_of = self.decoder.known
            return None
        return self._heads.get((block, key))

    def _keep(self, block: bytes, key: int, made: RequestHead | ResponseHead | End) -> None:
        if self.decoder.is_known(block):
            if not isinstance(made, End):
                made.comes_again = True
            self._heads[block, key] = made

    def _on_trailers(self, stream: Stream, block: bytes, fields: Headers | None, flags: int) -> None:
        if not flags & _END_STREAM:
            self._break(stream, ErrorCode.PROTOCOL_ERROR, "a second head that does not end the stream")
            return
        if (
            fields is None
            or sum(len(name) + len(value) for name, value in fields) > self.limits.trailer_bytes
        ):
            self._break(stream, ErrorCode.ENHANCE_YOUR_CALM, "trailers too long")
            return
        end = self._seen(block, _TRAILERS)
        if type(end) is not End:
            trailers = read_trailers(fields)
            if isinstance(trailers, Malformed):
                self._break(stream, ErrorCode.PROTOCOL_ERROR, trailers.detail)
                return
            end = End(trailers)
            self._keep(block, _TRAILERS, end)
        if stream.expected > 0:
            self._break(stream, ErrorCode.PROTOCOL_ERROR, "content does not have its announced length")
        else:
            self._events.append((stream, end))
            self._close_remote(stream)


_READERS: Final[dict[int, Callable[[Receiver, bytes, int, int], None]]] = {
    **CONTROL_READERS,
    FrameType.CONTINUATION: Receiver._on_continuation,
}
