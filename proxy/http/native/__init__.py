"""The compiled codec, None where it was not built (no compiler, no Python headers) or MESHPY_PURE is set.

`hatch_build.py` builds it beside this file. What it does, and that it may only do what Python would, says
codec.h.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from proxy.http.events import Framing, Header, Headers

if TYPE_CHECKING:
    from proxy.http.authority import Authority
    from proxy.http.head import RequestHead, ResponseHead

__all__ = ["Codec", "Values", "codec"]

Values = tuple[str | bytes | int | float | None, ...]
"""Of a line: text as it is, bytes that a stranger chose as a JSON string, whole numbers, None as null, and
seconds of the wall clock as a time, `2026-11-24T04:00:00.123Z`."""


class Codec(Protocol):
    """The functions of the compiled module."""

    def setup(
        self,
        request: type[RequestHead],
        response: type[ResponseHead],
        none: Framing,
        length: Framing,
        chunked: Framing,
        until_close: Framing,
        hop_by_hop: frozenset[bytes],
        authorities: dict[bytes, Authority],
        parse_authority: Callable[[bytes], Authority | None],
        /,
    ) -> None:
        """Tell it what Python defines; to be called first."""

    def request(self, raw: bytes, head_bytes: int, fields: int, target_bytes: int, /) -> RequestHead | None:
        """Read a plain request head; None: let Python judge."""

    def response(self, raw: bytes, head_bytes: int, fields: int, /) -> ResponseHead | None:
        """Read a plain response head with content; None: let Python judge."""

    def join(
        self,
        first: bytes,
        headers: Headers,
        drop: Collection[bytes],
        middle: bytes,
        extra: Sequence[Header],
        content: bytes | memoryview = b"",
        /,
    ) -> bytes:
        """Join a head and what follows it."""

    def compose(self, room: bytearray, at: int, texts: tuple[str, ...], values: Values, /) -> int:
        """Write a line of the access log; where it ends, -1: let Python do it."""

    def pack(
        self,
        ring: bytearray,
        at: int,
        is_told: bool,
        ended_at: float,
        started_at: float,
        sent: int,
        received: int,
        trace: bytes,
        parent: bytes,
        path: str,
        /,
    ) -> bool:
        """What `proxy.recent.pack_in_python` does."""

    def trim(self) -> None:
        """Give memory that was freed back to the kernel; some milliseconds."""


def _load() -> Codec | None:
    if os.environ.get("MESHPY_PURE"):
        return None
    try:
        module = importlib.import_module("proxy.http.native._codec")
    except ImportError:
        return None
    return cast("Codec", module)


codec: Codec | None = _load()
