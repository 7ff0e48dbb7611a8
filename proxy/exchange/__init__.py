"""One HTTP exchange: a request of a downstream connection, its tries upstream, the response.

Both sides are known through the seam of `sides` alone: the exchange hands heads, content and ends on, each
side writes them in its own protocol.

Life: `begin` (head judged) → `flush` (content for the upstream) … → a connection → `on_response` … →
complete, or failed from anywhere. After `is_over` every callback is ignored.

Rooms: `exchange` holds the state and takes the request in, `response` takes what the upstream sends, `tries`
asks one host after the other, `ends` is how it may end, `straight` the short way of most requests. Each
imports only those named after it, as functions; what others call on an exchange are its methods.
"""

from proxy.exchange.between import HALF_CLOSE, NOT_SENT, TIMEOUT_MS
from proxy.exchange.ends import OVERLOADED
from proxy.exchange.exchange import TOO_LARGE, Exchange
from proxy.exchange.tries import REPLAY_LIMIT_BYTES

__all__ = [
    "HALF_CLOSE",
    "NOT_SENT",
    "OVERLOADED",
    "REPLAY_LIMIT_BYTES",
    "TIMEOUT_MS",
    "TOO_LARGE",
    "Exchange",
]
