"""The vocabulary of the HTTP/1.1 codec: what a parser says about the bytes it was fed.

A message is: one head (RequestHead or ResponseHead, from `head`), any number of `Body`, one `End`.
`Refused` ends the connection: after it the parser says nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["END", "Body", "End", "Framing", "Header", "Headers", "Refused"]

Header = tuple[bytes, bytes]
Headers = list[Header]


class Framing(Enum):
    """How the length of a message's content is known (RFC 9112 §6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until-close"


@dataclass(slots=True)
class Body:
    """Content without its framing. A memoryview when the bytes also hold something else: no copy is made."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class End:
    """The message is complete. Trailers that could change framing, routing or identity were dropped."""

    trailers: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes that must not be passed on.

    Args:
        status: the answer to a client: 4xx or 5xx for a request, 502 for a response.
        reason: a short code for metrics and logs, `content-length-repeated`.
        detail: one sentence for people; holds no bytes of the peer.
    """

    status: int
    reason: str
    detail: str


END: Final = End()
"""The End of every message without trailers: one object, no allocation."""
