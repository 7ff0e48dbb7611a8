"""The sending half of an HTTP/2 connection: streams, flow control, what waits for a window.

Content leaves at once when both windows allow; else it waits with its stream, and streams that wait take
turns. A transport that takes no more counts as a closed window, so one mechanism holds everything back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from proxy.http.events import Header
from proxy.http.h2frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_H2_LIMITS,
    DEFAULT_WINDOW,
    MAX_WINDOW,
    ErrorCode,
    Flag,
    FrameType,
    H2Limits,
    frame_head,
    goaway_frame,
    reset_frame,
    window_frame,
)
from proxy.http.hpack_write import Encoder

__all__ = ["Sender", "Stream"]

_DATA, _HEADERS, _CONTINUATION = int(FrameType.DATA), int(FrameType.HEADERS), int(FrameType.CONTINUATION)
_JOINED_BYTES: Final = 1024
_END_STREAM, _END_HEADERS = int(Flag.END_STREAM), int(Flag.END_HEADERS)


class Stream:
    """One stream; whoever uses the codec makes a class of its own of it.

    Invariants: it is in `Sender.streams` until both sides have closed it or either has reset it.

    Args:
        expected: bytes of content still to come by content-length, -1 when the length is not known.
        credit: bytes received and not yet given back to the peer's window.
        is_held: no window is given back: whoever the content is for takes no more.
        waiting: content that no window allows yet; `tail` what follows it: None not yet known, the trailers,
            or () for a plain end.
    """

    __slots__ = (
        "credit",
        "expected",
        "id",
        "interims",
        "is_bodiless",
        "is_head_read",
        "is_held",
        "is_local_closed",
        "is_remote_closed",
        "is_source_held",
        "opened_at",
        "receive_window",
        "send_window",
        "tail",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, number: int, send_window: int, receive_window: int, now: float) -> None:
        self.id = number
        self.send_window = send_window
        self.receive_window = receive_window
        self.opened_at = now
        self.credit = 0
        self.expected = -1
        self.interims = 0
        self.is_bodiless = self.is_head_read = False
        self.is_held = self.is_source_held = self.is_local_closed = self.is_remote_closed = False
        self.waiting: deque[bytes | memoryview] | None = None
        self.waiting_bytes = 0
        self.tail: tuple[Header, ...] | None = None

    def hold_source(self) -> None:
        """Too much waits for the peer's window: send no more for now."""

    def release_source(self) -> None:
        """What waited has left."""


class Sender:
    """What both roles share of sending. Bytes gather in `out` until `take`."""

    def __init__(self, limits: H2Limits = DEFAULT_H2_LIMITS) -> None:
        self.limits = limits
        self.out: list[bytes | memoryview] = []
        self.streams: dict[int, Stream] = {}
        self.encoder = Encoder()
        self.send_window = DEFAULT_WINDOW
        self.peer_window = DEFAULT_WINDOW
        self.peer_frame_bytes = DEFAULT_FRAME_BYTES
        self.is_dead = False
        self.is_write_held = False
        self._blocked: dict[int, Stream] = {}
        self._allowance = limits.idle_frames
        self.last_peer_stream = 0

    def take(self) -> bytes:
        """The bytes to write now."""
        out, self.out = self.out, []
        return b"".join(out)

    # -- messages

    def send_head(self, stream: Stream, fields: Iterable[Header], *, is_end: bool = False) -> None:
        """A head or a trailer section."""
        self.send_block(stream, self.encoder.encode(fields), is_end=is_end)

    def send_block(self, stream: Stream, block: bytes, *, is_end: bool = False) -> None:
        """A head or a trailer section, encoded just now."""
        flags = _END_STREAM if is_end else 0
        limit = self.peer_frame_bytes
        self._allowance += 10
        if len(block) <= limit:
            self.out.append(frame_head(len(block), _HEADERS, flags | _END_HEADERS, stream.id) + block)
        else:
            self.out.append(frame_head(limit, _HEADERS, flags, stream.id) + block[:limit])
            for start in range(limit, len(block), limit):
                piece = block[start : start + limit]
                last = _END_HEADERS if start + limit >= len(block) else 0
                self.out.append(frame_head(len(piece), _CONTINUATION, last, stream.id) + piece)
        if is_end:
            self.close_local(stream)

    def send_content(
        self, stream: Stream, parts: list[bytes | memoryview], tail: tuple[Header, ...] | None
    ) -> None:
        """Content, and what ends the message: trailers, () for a plain end, None when more will come."""
        if stream.is_local_closed:
            return
        if stream.waiting is None and not self.is_write_held:
            size = sum(map(len, parts))
            if size <= stream.send_window and size <= self.send_window:
                self._write(stream, parts, size, tail)
                return
        waiting = stream.waiting
        if waiting is None:
            waiting = stream.waiting = deque()
            self._blocked[stream.id] = stream
        for part in parts:
            waiting.append(part)
            stream.waiting_bytes += len(part)
        stream.tail = tail
        if not self.is_write_held:
            self._drain(stream)
        if stream.waiting_bytes > self.limits.send_bytes and not stream.is_source_held:
            stream.is_source_held = True
            stream.hold_source()

    def _write(
        self, stream: Stream, parts: list[bytes | memoryview], size: int, tail: tuple[Header, ...] | None
    ) -> None:
        out = self.out
        limit = self.peer_frame_bytes
        number = stream.id
        stream.send_window -= size
        self.send_window -= size
        is_last = tail == ()
        count = len(parts)
        if count == 1 and size <= limit:
            # What most messages are. Small content is joined at once: a piece less to gather later.
            head = frame_head(size, _DATA, _END_STREAM if is_last else 0, number)
            if size <= _JOINED_BYTES:
                out.append(head + parts[0])
            else:
                out += (head, parts[0])
            parts = []
        for index, part in enumerate(parts, 1):
            length = len(part)
            flags = _END_STREAM if is_last and index == count else 0
            if length <= limit:
                out.append(frame_head(length, _DATA, flags, number))
                out.append(part)
                continue
            view = memoryview(part)
            for start in range(0, length, limit):
                piece = view[start : start + limit]
                is_final = start + limit >= length
                out.append(frame_head(len(piece), _DATA, flags if is_final else 0, number))
                out.append(piece)
        self._allowance += 10 * count
        if tail is None:
            return
        if is_last:
            if not count:
                out.append(frame_head(0, _DATA, _END_STREAM, number))
            self.close_local(stream)
        else:
            encoder = self.encoder
            block = encoder.encode_again(tail, lambda: tail) if len(tail) == 1 else encoder.encode(tail)
            self.send_block(stream, block, is_end=True)

    # -- windows

    def _drain(self, stream: Stream) -> None:
        """Send of what waits as much as the windows allow."""
        waiting = stream.waiting
        if waiting is None:
            return
        room = min(stream.send_window, self.send_window)
        parts: list[bytes | memoryview] = []
        size = 0
        while waiting and room > 0:
            part = waiting.popleft()
            if len(part) > room:
                view = memoryview(part)
                waiting.appendleft(view[room:])
                part = view[:room]
            parts.append(part)
            size += len(part)
            room -= len(part)
        stream.waiting_bytes -= size
        if waiting:
            if parts:
                self._write(stream, parts, size, None)
        else:
            stream.waiting = None
            self._blocked.pop(stream.id, None)
            if parts or stream.tail is not None:
                self._write(stream, parts, size, stream.tail)
        if stream.is_source_held and stream.waiting_bytes <= self.limits.send_bytes // 2:
            stream.is_source_held = False
            stream.release_source()

    def drain_all(self) -> None:
        """Let streams that wait go on, the one that waited longest first."""
        if self.is_write_held:
            return
        for stream in list(self._blocked.values()):
            if self.send_window <= 0 and not (stream.waiting is not None and not stream.waiting):
                break
            self._drain(stream)
            if stream.waiting is not None and stream.id in self._blocked:
                # To the end of the line: a stream with much to say must not starve the others.
                self._blocked[stream.id] = self._blocked.pop(stream.id)

    def hold_writes(self) -> None:
        """The transport is full."""
        self.is_write_held = True

    def release_writes(self) -> None:
        """The transport has room."""
        self.is_write_held = False
        self.drain_all()

    def hold(self, stream: Stream) -> None:
        """Give the peer no more window for this stream."""
        stream.is_held = True

    def release(self, stream: Stream) -> None:
        """Give the window back that was held."""
        if stream.is_held:
            stream.is_held = False
            self._give_back(stream)

    def _give_back(self, stream: Stream) -> None:
        credit = stream.credit
        if credit and not stream.is_remote_closed and stream.id in self.streams:
            stream.credit = 0
            stream.receive_window += credit
            self.out.append(window_frame(stream.id, credit))

    def grow_window(self, stream: Stream | None, increment: int) -> bool:
        """The peer gives window to a stream or (None) the connection; False when it is too much."""
        if stream is None:
            self.send_window += increment
            if self.send_window > MAX_WINDOW:
                return False
            self.drain_all()
            return True
        stream.send_window += increment
        if stream.send_window > MAX_WINDOW:
            return False
        if not self.is_write_held:
            self._drain(stream)
        return True

    # -- ends

    def close_local(self, stream: Stream) -> None:
        """Our half of the stream is complete."""
        stream.is_local_closed = True
        if stream.is_remote_closed:
            self.drop(stream)

    def drop(self, stream: Stream) -> None:
        """The stream is over."""
        self.streams.pop(stream.id, None)
        self._blocked.pop(stream.id, None)
        stream.waiting = None
        stream.is_local_closed = stream.is_remote_closed = True

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """Break a stream off; nothing when it is over."""
        if stream.id in self.streams:
            self.out.append(reset_frame(stream.id, code))
            self.drop(stream)

    def ping(self, payload: bytes) -> None:
        """Ask the peer for a sign of life."""
        self.out.append(frame_head(8, FrameType.PING, 0, 0) + payload)

    def goaway(self, last: int, code: ErrorCode = ErrorCode.NO_ERROR, reason: str = "") -> None:
        """Announce the end: streams after `last` will not be served."""
        self.out.append(goaway_frame(last, code, reason))
