"""HTTP/2 frames (RFC 9113 §4, §6): types, flags, error codes, bounds, and how frames are written."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

__all__ = [
    "DEFAULT_H2_LIMITS",
    "PREFACE",
    "ErrorCode",
    "Flag",
    "FrameType",
    "H2Limits",
    "Setting",
    "goaway_frame",
    "ping_frame",
    "reset_frame",
    "settings_frame",
    "window_frame",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65535
DEFAULT_FRAME_BYTES = 16384

FRAME_HEAD: Final = struct.Struct(">HBBBL")
"""Length as 16 and 8 bits, type, flags, stream."""


class FrameType(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntFlag):
    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class ErrorCode(IntEnum):
    """RFC 9113 §7; a code that is not known counts as INTERNAL_ERROR."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13

    @classmethod
    def _missing_(cls, _value: object) -> ErrorCode:
        return cls.INTERNAL_ERROR


class Setting(IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


@dataclass(frozen=True, slots=True)
class H2Limits:
    """The bounds of one connection; Envoy's where Envoy has one.

    Args:
        head_bytes: names and values of a head; more is answered 431 (Envoy: 60 KiB).
        fields: of a head; more is answered 431 (Envoy: 100).
        trailer_bytes: names and values of a trailer section.
        target_bytes: of `:path`; more is answered 414.
        block_bytes: a header block as received, CONTINUATION frames included; more ends the connection.
        continuations: CONTINUATION frames of a block (VU#421644).
        streams: at once; one more is refused with REFUSED_STREAM.
        stream_window, window: bytes that a peer may have on its way, for a stream and for the connection.
        send_bytes: content that waits for a peer's window before its source is asked to pause.
        early_resets, early_reset_pct, early_reset_s: streams that end by a reset within so many seconds; when
            they are this share of so many streams or more, the connection ends (CVE-2023-44487).
        idle_frames, idle_frames_s: frames that carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty
            DATA, RST_STREAM, unknown ones) in so many seconds, plus ten for each HEADERS or filled DATA frame
            of either side.
        interim_heads: 1xx heads before a final response.
    """

    head_bytes: int = 60 * 1024
    fields: int = 100
    trailer_bytes: int = 8 * 1024
    target_bytes: int = 8 * 1024
    block_bytes: int = 64 * 1024
    continuations: int = 64
    streams: int = 100
    stream_window: int = 256 * 1024
    window: int = 1024 * 1024
    send_bytes: int = 64 * 1024
    early_resets: int = 500
    early_reset_pct: int = 50
    early_reset_s: float = 1.0
    idle_frames: int = 1000
    idle_frames_s: float = 10.0
    interim_heads: int = 8


DEFAULT_H2_LIMITS = H2Limits()


def frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    return FRAME_HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def settings_frame(values: Iterable[tuple[int, int]]) -> bytes:
    """SETTINGS with these values."""
    payload = b"".join(struct.pack(">HL", *pair) for pair in values)
    return frame_head(len(payload), FrameType.SETTINGS, 0, 0) + payload


SETTINGS_ACK = frame_head(0, FrameType.SETTINGS, Flag.ACK, 0)


def ping_frame(payload: bytes, *, is_ack: bool) -> bytes:
    """PING with eight octets."""
    return frame_head(8, FrameType.PING, Flag.ACK if is_ack else 0, 0) + payload


def reset_frame(stream: int, code: int) -> bytes:
    """RST_STREAM."""
    return frame_head(4, FrameType.RST_STREAM, 0, stream) + struct.pack(">L", code)


def goaway_frame(last: int, code: int, reason: str = "") -> bytes:
    """GOAWAY; the reason helps who debugs the peer."""
    payload = struct.pack(">LL", last, code) + reason.encode()
    return frame_head(len(payload), FrameType.GOAWAY, 0, 0) + payload


def window_frame(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame_head(4, FrameType.WINDOW_UPDATE, 0, stream) + struct.pack(">L", increment)
