"""HTTP/2 connections as bytes in, events out (RFC 9113). No socket, no clock.

`receive` returns what happened on which stream, in order, in the vocabulary of HTTP/1.1 (`events`) with
`Reset` besides; what is to be written gathers in `out`. `h2receive` and `h2control` read frames,
`h2stream` sends, `h2heads` makes heads of fields; here are the two roles, and the heads that
each of them reads.

Hot file: a head whose block was seen before on the connection is not read again (see `hpack`).
"""

from __future__ import annotations

from typing import Final

from proxy.http.events import END, Headers, Refused
from proxy.http.h2control import ConnectionFault, Reset
from proxy.http.h2frames import (
    DEFAULT_H2_LIMITS,
    DEFAULT_WINDOW,
    MAX_WINDOW,
    PREFACE,
    ErrorCode,
    Flag,
    H2Limits,
    Setting,
    settings_frame,
    window_frame,
)
from proxy.http.h2heads import Malformed, read_request, read_response
from proxy.http.h2receive import NewStream, Receiver
from proxy.http.h2stream import Stream
from proxy.http.head import RequestHead, ResponseHead

__all__ = ["ClientCodec", "ServerCodec"]

END_STREAM: Final = int(Flag.END_STREAM)


class ServerCodec(Receiver):
    """The side that is asked: requests of a client."""

    def __init__(self, limits: H2Limits = DEFAULT_H2_LIMITS, new_stream: NewStream = Stream) -> None:
        super().__init__(limits, new_stream)
        self.served = 0
        self._final_stream = MAX_WINDOW
        self.out.append(
            settings_frame(
                (
                    (Setting.MAX_CONCURRENT_STREAMS, limits.streams),
                    (Setting.INITIAL_WINDOW_SIZE, limits.stream_window),
                    (Setting.MAX_HEADER_LIST_SIZE, limits.head_bytes),
                )
            )
        )
        self.out.append(window_frame(0, limits.window - DEFAULT_WINDOW))
        self._window = limits.window

    def _read_preface(self, data: bytes) -> int:
        if len(data) < len(PREFACE):
            if not PREFACE.startswith(data):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no preface of HTTP/2")
            return 0
        if not data.startswith(PREFACE):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no preface of HTTP/2")
        self._is_preface_read = True
        return len(PREFACE) + self._read(data[len(PREFACE) :])

    def _is_idle(self, number: int) -> bool:
        return number > self.last_peer_stream or number % 2 == 0

    def _count_end(self, *, is_early: bool) -> None:
        limits = self.limits
        self._over_early += is_early
        over = max(self.served, limits.early_resets)
        if self._over_early * 100 >= over * limits.early_reset_pct:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams are reset early")

    def _on_block(self, block: bytes, flags: int, number: int) -> None:
        fields = self._decode(block)
        stream = self.streams.get(number)
        if stream is not None:
            if stream.is_remote_closed:
                self._break(stream, ErrorCode.STREAM_CLOSED, "HEADERS after the end of the stream")
            else:
                self._on_trailers(stream, block, fields, flags)
            return
        if number % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's stream has an odd number")
        if number <= self.last_peer_stream:
            if number not in self._reset_by_us:
                raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
            return
        if number > self._final_stream:
            return  # after our GOAWAY: the client knows that it is not served
        self.last_peer_stream = number
        self.served += 1
        self._allowance += 10
        self._open(number, block, fields, flags)

    def _open(self, number: int, block: bytes, fields: Headers | None, flags: int) -> None:
        stream = self._new_stream(number, self.peer_window, self.limits.stream_window, self._now)
        self.streams[number] = stream
        if len(self.streams) > self.limits.streams:
            self._refuse_stream(stream)
            return
        is_end = flags & END_STREAM
        stream.is_head_read = True
        stream.is_remote_closed = bool(is_end)
        head = self._request(block, fields, is_end)
        if type(head) is RequestHead:
            if not is_end and head.framing.value == "length":
                stream.expected = head.content_length
            self._events.append((stream, head))
            if is_end:
                self._events.append((stream, END))
        elif type(head) is Refused:
            self._events.append((stream, head))
        elif type(head) is Malformed:
            self._break(stream, ErrorCode.PROTOCOL_ERROR, head.detail)

    def _refuse_stream(self, stream: Stream) -> None:
        """One too many. Before the client knows our limit that is no fault of its own."""
        self.reset(stream, ErrorCode.REFUSED_STREAM)
        if self.is_settings_acked:
            self._count_end(is_early=True)

    def _request(
        self, block: bytes, fields: Headers | None, is_end: int
    ) -> RequestHead | Refused | Malformed:
        if fields is None:
            return Refused(431, "head-too-large", "the head has too many fields or bytes")
        known = self._seen(block, is_end)
        if type(known) is RequestHead:
            return known
        head = read_request(fields, self.limits, is_end=bool(is_end))
        if type(head) is RequestHead and not head.query:
            # A query may hold a token, which is taken out of the head: that head is for one request.
            self._keep(block, is_end, head)
        return head

    def finish(self) -> int:
        """Take no further streams; returns the last one that is served."""
        self._final_stream = self.last_peer_stream
        return self._final_stream


class ClientCodec(Receiver):
    """The side that asks: responses of an upstream, which is not trusted either."""

    def __init__(self, limits: H2Limits = DEFAULT_H2_LIMITS, new_stream: NewStream = Stream) -> None:
        super().__init__(limits, new_stream)
        self.peer_streams = limits.streams
        self._next = 1
        self.out.append(PREFACE)
        self.out.append(
            settings_frame(
                (
                    (Setting.ENABLE_PUSH, 0),
                    (Setting.INITIAL_WINDOW_SIZE, limits.stream_window),
                    (Setting.MAX_HEADER_LIST_SIZE, limits.head_bytes),
                )
            )
        )
        self.out.append(window_frame(0, limits.window - DEFAULT_WINDOW))
        self._window = limits.window

    @property
    def has_room(self) -> bool:
        """Whether one more stream may be opened now."""
        return (
            self.gone is None
            and self.error is None
            and len(self.streams) < self.peer_streams
            and self._next < MAX_WINDOW
        )

    def open(self, now: float) -> Stream:
        """A new stream; its head is to be sent before another one is opened."""
        number = self._next
        self._next += 2
        stream = self.streams[number] = self._new_stream(
            number, self.peer_window, self.limits.stream_window, now
        )
        return stream

    def _set(self, name: int, value: int) -> None:
        if name == Setting.MAX_CONCURRENT_STREAMS:
            self.peer_streams = value
        elif name == Setting.ENABLE_PUSH and value:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a server that asks to be pushed to")
        else:
            super()._set(name, value)

    def _is_idle(self, number: int) -> bool:
        return number >= self._next or number % 2 == 0

    def _on_last(self, last: int) -> None:
        for number, stream in list(self.streams.items()):
            if number > last:
                self.drop(stream)
                self._events.append((stream, Reset(ErrorCode.REFUSED_STREAM, is_unprocessed=True)))

    def _on_block(self, block: bytes, flags: int, number: int) -> None:
        fields = self._decode(block)
        stream = self.streams.get(number)
        if stream is None:
            if self._is_idle(number):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a response that nobody asked for")
            return  # to a stream that we gave up
        if stream.is_remote_closed:
            self._break(stream, ErrorCode.STREAM_CLOSED, "HEADERS after the end of the stream")
        elif stream.is_head_read:
            self._on_trailers(stream, block, fields, flags)
        elif fields is None:
            self._break(stream, ErrorCode.PROTOCOL_ERROR, "the head has too many fields or bytes")
        else:
            self._on_response(stream, block, fields, flags & END_STREAM)

    def _on_response(self, stream: Stream, block: bytes, fields: Headers, is_end: int) -> None:
        self._allowance += 10
        head = self._response(block, fields, is_end | stream.is_bodiless << 1)
        if isinstance(head, Malformed):
            self._break(stream, ErrorCode.PROTOCOL_ERROR, head.detail)
            return
        if head.is_interim:
            stream.interims += 1
            if stream.interims > self.limits.interim_heads:
                self._break(stream, ErrorCode.ENHANCE_YOUR_CALM, "too many 1xx heads before a response")
                return
            self._events.append((stream, head))
            return
        stream.is_head_read = True
        framing = head.framing.value
        if framing == "length":
            stream.expected = head.content_length
        elif framing == "none":
            stream.is_bodiless = True
        self._events.append((stream, head))
        if is_end:
            self._events.append((stream, END))
            self._close_remote(stream)

    def _response(self, block: bytes, fields: Headers, key: int) -> ResponseHead | Malformed:
        known = self._seen(block, key)
        if type(known) is ResponseHead:
            return known
        head = read_response(fields, "HEAD" if key & 2 else "GET", is_end=bool(key & 1))
        if type(head) is ResponseHead:
            self._keep(block, key, head)
        return head
