"""Accepted connections that speak HTTP: `h1` and `h2`, on the life that both have (`life`).

What `h1` writes is in `h1_answers`, who is too slow is told by `h1_watch`, `h1_tunnel` is what it becomes
after 101 or CONNECT; `h2_stream` is the side of one exchange on a connection of HTTP/2.
"""

from proxy.downstream.h1 import Downstream
from proxy.downstream.h2 import H2Downstream

__all__ = ["Downstream", "H2Downstream"]
