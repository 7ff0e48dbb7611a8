"""HTTP/1.1 connections as bytes in, events out (RFC 9112). No socket, no clock.

A parser reads one message at a time. After `End` it holds what follows back until `next_message` (requests)
or `begin` (responses): a pipelined request is neither lost nor read before the one before it is answered, and
bytes that an upstream sent unasked are seen (`has_leftover`) and never become an answer. The caller stops
reading from the transport meanwhile, so what is held back is bounded by one read.

Hot file: a whole head in one piece is handed to `head` without a copy.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from proxy.http.chunked import ChunkDecoder
from proxy.http.diagnose import HTTP2_PREFACE, explain_first_line, explain_rest
from proxy.http.events import END, Body, End, Framing, Refused
from proxy.http.head import RequestHead, ResponseHead
from proxy.http.limits import DEFAULT_LIMITS, Limits
from proxy.http.request_head import parse_request_head
from proxy.http.response_head import parse_response_head

__all__ = ["Event", "RequestParser", "ResponseParser"]

Event = RequestHead | ResponseHead | Body | End | Refused

_HEAD_END: Final = b"\r\n\r\n"
_CR: Final = 0x0D
_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_UNTIL_CLOSE: Final = Framing.UNTIL_CLOSE


class _State(Enum):
    HEAD = "head"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until-close"
    DONE = "done"
    REFUSED = "refused"


# An enum's members are looked up through its metaclass: names of the module are four times as fast.
_HEAD: Final = _State.HEAD
_IN_LENGTH: Final = _State.LENGTH
_DONE: Final = _State.DONE


class _Parser:
    """What both directions share: collecting a head, taking content apart."""

    __slots__ = ("_chunks", "_held", "_is_first_line_seen", "_limits", "_remaining", "_scanned", "_state")

    _is_request = True

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._held = bytearray()
        self._scanned = 0
        self._is_first_line_seen = False
        self._remaining = 0
        self._chunks: ChunkDecoder | None = None
        self._state = _State.HEAD

    @property
    def has_leftover(self) -> bool:
        """Whether bytes beyond the current message were received."""
        return bool(self._held)

    @property
    def is_idle(self) -> bool:
        """Whether the connection stands between two messages, no byte of the next one received."""
        return self._state in (_State.HEAD, _State.DONE) and not self._held

    def take_leftover(self) -> bytes:
        """Take the bytes after the message: the first bytes of a tunnel."""
        leftover = bytes(self._held)
        self._held.clear()
        return leftover

    def feed(self, data: bytes) -> list[Event]:
        """Read the next bytes of the connection."""
        events: list[Event] = []
        if self._state is not _HEAD:
            self._read_content(data, 0, events)
        elif self._held or not self._read_plain(data, events):
            self._read_head(data, events)
        return events

    def _read_plain(self, data: bytes, events: list[Event]) -> bool:
        """The straight road: a whole head at the beginning of one read; False leaves all to `_read_head`."""
        end = data.find(_HEAD_END, 0, self._limits.head_bytes) + 4
        if end < 4 or data[0] == _CR:
            return False
        size = len(data)
        head = self._parse_head(data if end == size else data[:end])
        if isinstance(head, Refused):
            events.append(self._refuse(head, data))
            return True
        events.append(head)
        self._begin_content(head, events)
        if end == size:
            return True
        if self._state is _IN_LENGTH and size - end == self._remaining:
            self._state = _DONE
            events.append(Body(memoryview(data)[end:]))
            events.append(END)
        else:
            self._read_content(data, end, events)
        return True

    def feed_eof(self) -> list[Event]:
        """The peer has closed its side: End for content until close, none between messages, else Refused."""
        if self._state is _State.UNTIL_CLOSE:
            self._state = _State.DONE
            return [END]
        if self._state in (_State.DONE, _State.REFUSED):
            return []
        if self._state is _State.HEAD and not self._held and self._may_end_here():
            return []
        status = 400 if self._is_request else 502
        return [self._refuse(Refused(status, "truncated", "the connection ended within a message"))]

    def _may_end_here(self) -> bool:
        return True

    def _parse_head(self, raw: bytes) -> RequestHead | ResponseHead | Refused:
        raise NotImplementedError

    def _refuse(self, refused: Refused, received: bytes = b"") -> Refused:
        self._state = _State.REFUSED
        self._held.clear()
        if refused.reason == HTTP2_PREFACE:
            self._held += received  # for who goes on in HTTP/2
        return refused

    def _read_head(self, data: bytes, events: list[Event]) -> None:
        if self._held:
            self._held += data
            data = bytes(self._held) if self._is_head_complete() else b""
            if not data:
                self._check_prefix(events)
                return
            self._held.clear()
        end = data.find(_HEAD_END, 0, self._limits.head_bytes) + 4
        if end < 4:
            self._held += data
            self._check_prefix(events)
            return
        self._scanned = 0
        self._is_first_line_seen = False
        head = self._parse_head(data if end == len(data) else data[:end])
        if isinstance(head, Refused):
            events.append(self._refuse(head, data))
            return
        events.append(head)
        self._begin_content(head, events)
        if end < len(data):
            self._read_content(data, end, events)

    def _is_head_complete(self) -> bool:
        return self._held.find(_HEAD_END, max(0, self._scanned - 3), self._limits.head_bytes) >= 0

    def _check_prefix(self, events: list[Event]) -> None:
        """Refuse as early as the bytes show it: a bare LF would otherwise wait for the head timeout."""
        held = self._held
        limit = self._limits.head_bytes
        refused: Refused | None = None
        if not self._is_first_line_seen:
            prefix = bytes(held[:limit])
            refused = explain_first_line(prefix, self._limits, is_request=self._is_request)
            self._is_first_line_seen = b"\r\n" in prefix
        if refused is None:
            since = max(0, self._scanned - 1)
            refused = explain_rest(bytes(held[since:limit]), len(held), limit, is_request=self._is_request)
        self._scanned = len(held)
        if refused is not None:
            events.append(self._refuse(refused, bytes(held)))

    def _begin_content(self, head: RequestHead | ResponseHead, events: list[Event]) -> None:
        framing = head.framing
        if framing is _NONE:
            self._state = _DONE
            events.append(END)
        elif framing is _LENGTH and head.content_length:
            self._state = _IN_LENGTH
            self._remaining = head.content_length
        elif framing is _CHUNKED:
            self._state = _State.CHUNKED
        elif framing is _UNTIL_CLOSE:
            self._state = _State.UNTIL_CLOSE
        else:
            self._state = _State.DONE
            events.append(END)

    def _read_content(self, data: bytes, position: int, events: list[Event]) -> None:
        state = self._state
        if state is _State.LENGTH:
            self._read_length(data, position, events)
        elif state is _State.CHUNKED:
            self._read_chunks(data, position, events)
        elif state is _State.UNTIL_CLOSE:
            events.append(Body(memoryview(data)[position:] if position else data))
        elif state is _State.DONE:
            self._held += data[position:]
        elif state is _State.HEAD:
            self._read_head(data[position:], events)

    def _read_length(self, data: bytes, position: int, events: list[Event]) -> None:
        available = len(data) - position
        if available < self._remaining:
            self._remaining -= available
            events.append(Body(memoryview(data)[position:] if position else data))
            return
        stop = position + self._remaining
        is_whole = position == 0 and stop == len(data)
        events.append(Body(data if is_whole else memoryview(data)[position:stop]))
        self._state = _State.DONE
        events.append(END)
        if stop < len(data):
            self._held += data[stop:]

    def _read_chunks(self, data: bytes, position: int, events: list[Event]) -> None:
        chunks = self._chunks
        if chunks is None:
            chunks = self._chunks = ChunkDecoder(self._limits)
        parts, position = chunks.decode(data, position)
        if parts:
            # Chunks of one read become one: thousands of one-byte chunks cost the next hop nothing.
            events.append(Body(parts[0] if len(parts) == 1 else b"".join(parts)))
        if chunks.problem is not None:
            events.append(self._refuse(Refused(400 if self._is_request else 502, *chunks.problem)))
        elif chunks.is_done:
            self._state = _State.DONE
            self._chunks = None
            events.append(End(tuple(chunks.trailers)) if chunks.trailers else END)
            if position < len(data):
                self._held += data[position:]


class RequestParser(_Parser):
    """The server side of a connection: requests from a client. `is_first` until one was answered."""

    __slots__ = ("_allow_connect", "_blank_lines", "is_first")

    def __init__(self, limits: Limits = DEFAULT_LIMITS, *, allow_connect: bool = False) -> None:
        super().__init__(limits)
        self._allow_connect = allow_connect
        self._blank_lines = 0
        self.is_first = True

    def read_get(self, data: bytes) -> RequestHead | None:
        """A plain GET that is all of `data`; None: nothing was read, `feed` is to."""
        if self._state is not _HEAD or self._held or not data.startswith(b"GET "):
            return None
        if data.find(_HEAD_END, 0, self._limits.head_bytes) + 4 != len(data):
            return None
        head = parse_request_head(data, self._limits)
        if type(head) is Refused or head.framing is not _NONE:  # type: ignore[union-attr]
            return None
        self._state = _DONE
        return head  # type: ignore[return-value]

    def next_message(self) -> list[Event]:
        """Begin the next request, once the last one is answered; reads what was held back."""
        if self._state is not _DONE:
            return []
        self._state = _HEAD
        self._blank_lines = 0
        self.is_first = False
        return self.feed(self.take_leftover()) if self._held else []

    def _read_head(self, data: bytes, events: list[Event]) -> None:
        if self._held == b"\r" or (data[:1] == b"\r" and not self._held):
            data = self._skip_blank_lines(bytes(self._held) + data, events)
            if not data:
                return
        super()._read_head(data, events)

    def _skip_blank_lines(self, data: bytes, events: list[Event]) -> bytes:
        self._held.clear()
        while data.startswith(b"\r\n"):
            data = data[2:]
            self._blank_lines += 1
            if self._blank_lines > self._limits.leading_blank_lines:
                refused = Refused(400, "blank-lines", "too many empty lines before a request line")
                events.append(self._refuse(refused))
                return b""
        if data == b"\r":
            self._held += data
            return b""
        return data

    def _parse_head(self, raw: bytes) -> RequestHead | Refused:
        return parse_request_head(raw, self._limits, allow_connect=self._allow_connect)


class ResponseParser(_Parser):
    """The client side of a connection: responses of an upstream, which is not trusted either."""

    __slots__ = ("_interim_heads", "_method")

    _is_request = False

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(limits)
        self._method = "GET"
        self._interim_heads = 0
        self._state = _State.DONE

    def begin(self, request_method: str) -> None:
        """Expect the answer to a request.

        Raises:
            RuntimeError: the last answer is not complete, or bytes came unasked: do not reuse the connection.
        """
        if self._state is not _DONE or self._held:
            raise RuntimeError("an upstream connection is reused only between messages")
        self._method = request_method
        self._interim_heads = 0
        self._state = _HEAD

    def read(self, data: bytes) -> ResponseHead | list[Event]:
        """As `feed`; a response that ends with `data`, its content known by its length, is its head alone."""
        limits = self._limits
        end = data.find(_HEAD_END, 0, limits.head_bytes) + 4
        if end < 4 or self._held or self._state is not _HEAD:
            return self.feed(data)
        head = parse_response_head(data[:end], self._method, limits)
        if type(head) is not ResponseHead:
            return [self._refuse(head)]  # type: ignore[arg-type]
        size = len(data)
        if head.framing is _LENGTH and size - end == head.content_length:
            self._state = _DONE
            return head
        events: list[Event] = [head]
        self._begin_content(head, events)
        if end < size:
            self._read_content(data, end, events)
        return events

    def _may_end_here(self) -> bool:
        return False

    def _parse_head(self, raw: bytes) -> ResponseHead | Refused:
        return parse_response_head(raw, self._method, self._limits)

    def _begin_content(self, head: RequestHead | ResponseHead, events: list[Event]) -> None:
        if isinstance(head, ResponseHead) and head.is_interim:
            self._interim_heads += 1
            if self._interim_heads > self._limits.interim_heads:
                events[-1] = self._refuse(
                    Refused(502, "interim-flood", "too many 1xx heads before a response")
                )
            return
        super()._begin_content(head, events)
