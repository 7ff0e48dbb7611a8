"""What is judged: one request, and the peer that sent it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshpy.engine.claims import RequestAuth
from meshpy.model.names import ServiceName

__all__ = ["UNKNOWN_PEER", "Peer", "Request", "host_of"]


class Request:
    """The head of one request as policy sees it.

    A plain slotted class: the proxy makes one per request and its header mapping was built by the codec.

    Args:
        path: normalised (`engine.normalise`), without the query.
        query: as received, without `?`.
        authority: lower case; may carry a port.
        headers: lower-case name → every value received under it, in order.
        auth: what its verified JWT says; None without one.
    """

    __slots__ = ("auth", "authority", "headers", "method", "path", "query", "scheme")

    def __init__(
        self,
        method: str,
        path: str,
        query: str,
        authority: str,
        scheme: str,
        headers: Mapping[str, Sequence[str]],
        auth: RequestAuth | None = None,
    ) -> None:
        self.auth = auth
        self.method = method
        self.path = path
        self.query = query
        self.authority = authority
        self.scheme = scheme
        self.headers = headers

    def __repr__(self) -> str:
        target = f"{self.path}?{self.query}" if self.query else self.path
        return f"<Request {self.method} {self.scheme}://{self.authority}{target}>"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of an accepted connection.

    Args:
        service: the service its certificate proved; None when it has no identity of this trust domain.
        principal: its SPIFFE id without `spiffe://`; empty without a certificate.
        address: its IP address; empty when unknown.
        is_foreign: the principal was proved to other roots than the mesh's; its path means no namespace here.
    """

    service: ServiceName | None = None
    principal: str = ""
    address: str = ""
    is_foreign: bool = False


UNKNOWN_PEER = Peer()


@functools.lru_cache(maxsize=4096)
def host_of(authority: str) -> str:
    """The host of an authority: lower case, without port and trailing dot; `[::1]` keeps its brackets.

    `SECRET.com`, `secret.com:8080` and `secret.com.` are one host to every rule (CVE-2021-39155).
    """
    text = authority.lower()
    if text.startswith("["):
        return text[: text.find("]") + 1] or text
    return text.partition(":")[0].rstrip(".")
