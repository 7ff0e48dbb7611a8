"""Frames of an HTTP/2 connection itself: SETTINGS, PING, GOAWAY, windows, resets (RFC 9113 §6)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.http.events import Body, End, Refused
from proxy.http.h2frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_H2_LIMITS,
    MAX_WINDOW,
    SETTINGS_ACK,
    ErrorCode,
    Flag,
    FrameType,
    H2Limits,
    Setting,
    frame_head,
)
from proxy.http.h2stream import Sender, Stream
from proxy.http.head import RequestHead, ResponseHead

__all__ = ["CONTROL_READERS", "ConnectionFault", "Control", "Gone", "H2Event", "Reset"]

_ACK: Final = int(Flag.ACK)


@dataclass(frozen=True, slots=True)
class Reset:
    """The stream is broken off.

    Args:
        is_unprocessed: the peer has done nothing for it: it may be sent again, whatever it asks for.
        is_ours: we broke it off, for an error of the peer; `reason` says which.
    """

    code: ErrorCode
    is_unprocessed: bool = False
    is_ours: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """The peer takes no new streams (GOAWAY)."""

    code: ErrorCode


H2Event = RequestHead | ResponseHead | Body | End | Refused | Reset


class ConnectionFault(Exception):  # noqa: N818 - RFC 9113's connection error, of the peer's making
    """The connection cannot go on."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Control(Sender):
    """Reads these frames; what they change is the sender's, or told to whoever reads the streams."""

    def __init__(self, limits: H2Limits = DEFAULT_H2_LIMITS) -> None:
        super().__init__(limits)
        self.gone: Gone | None = None
        self.pongs: list[bytes] = []
        self.is_settings_acked = False
        self._is_settings_read = False
        self._now = 0.0
        self._events: list[tuple[Stream, H2Event]] = []

    def _is_idle(self, number: int) -> bool:
        """Whether the stream was never opened."""
        raise NotImplementedError

    def _break(self, stream: Stream, code: ErrorCode, reason: str) -> None:
        """Reset a stream for an error of the peer."""
        raise NotImplementedError

    def _count_end(self, *, is_early: bool) -> None:
        """Envoy's rule against rapid resets: enough of them, and more than their share."""

    def _on_priority(self, payload: bytes, _flags: int, number: int) -> None:
        """RFC 9113 §5.3: read and not followed."""
        if number == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has five octets")
        if int.from_bytes(payload[:4]) & MAX_WINDOW == number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")

    def _on_reset(self, payload: bytes, _flags: int, number: int) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has four octets")
        if number == 0 or self._is_idle(number):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on a stream that was never opened")
        stream = self.streams.get(number)
        if stream is None:
            return
        self.drop(stream)
        code = ErrorCode(int.from_bytes(payload))
        self._events.append((stream, Reset(code, is_unprocessed=code is ErrorCode.REFUSED_STREAM)))
        self._count_end(is_early=self._now - stream.opened_at < self.limits.early_reset_s)

    def _on_settings(self, payload: bytes, flags: int, number: int) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & _ACK:
            if payload or not self._is_settings_read:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with content")
            self.is_settings_acked = True
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS cut short")
        self._is_settings_read = True
        for name, value in struct.iter_unpack(">HL", payload):
            self._set(name, value)
        self.out.append(SETTINGS_ACK)

    def _set(self, name: int, value: int) -> None:
        if name == Setting.HEADER_TABLE_SIZE:
            self.encoder.limit(value)
        elif name == Setting.ENABLE_PUSH:
            if value > 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        elif name == Setting.INITIAL_WINDOW_SIZE:
            self._resize_windows(value)
        elif name == Setting.MAX_FRAME_SIZE:
            if not DEFAULT_FRAME_BYTES <= value < 2**24:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE out of its range")
            self.peer_frame_bytes = min(value, 64 * 1024)

    def _resize_windows(self, value: int) -> None:
        if value > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE out of its range")
        change, self.peer_window = value - self.peer_window, value
        for stream in list(self.streams.values()):
            if not self.grow_window(stream, change):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window out of its range")

    def _on_push(self, _payload: bytes, _flags: int, _number: int) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which is not allowed here")

    def _on_ping(self, payload: bytes, flags: int, number: int) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING has eight octets")
        if flags & _ACK:
            self.pongs.append(payload)
        else:
            self.out.append(frame_head(8, FrameType.PING, _ACK, 0) + payload)

    def _on_goaway(self, payload: bytes, _flags: int, number: int) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY cut short")
        self.gone = Gone(ErrorCode(int.from_bytes(payload[4:8])))
        self._on_last(int.from_bytes(payload[:4]) & MAX_WINDOW)

    def _on_last(self, last: int) -> None:
        """The peer will not serve streams after this one."""

    def _on_window(self, payload: bytes, _flags: int, number: int) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four octets")
        increment = int.from_bytes(payload) & MAX_WINDOW
        if number == 0:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window that grows by nothing")
            if not self.grow_window(None, increment):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
            return
        stream = self.streams.get(number)
        if stream is None:
            if self._is_idle(number):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE before its stream")
        elif not increment:
            self._break(stream, ErrorCode.PROTOCOL_ERROR, "a window that grows by nothing")
        elif not self.grow_window(stream, increment):
            self._break(stream, ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")


CONTROL_READERS: Mapping[int, Callable[[Control, bytes, int, int], None]] = {
    FrameType.PRIORITY: Control._on_priority,
    FrameType.RST_STREAM: Control._on_reset,
    FrameType.SETTINGS: Control._on_settings,
    FrameType.PUSH_PROMISE: Control._on_push,
    FrameType.PING: Control._on_ping,
    FrameType.GOAWAY: Control._on_goaway,
    FrameType.WINDOW_UPDATE: Control._on_window,
}
