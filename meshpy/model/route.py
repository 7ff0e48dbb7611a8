"""Routes: what becomes of a request that a caller sends to a host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from meshpy.model.match import RequestMatch
from meshpy.model.names import ServiceName
from meshpy.model.resilience import DEFAULT_RETRY, RetryPolicy

__all__ = [
    "Destination",
    "DirectResponse",
    "Fault",
    "Forward",
    "HeaderOps",
    "Redirect",
    "Rewrite",
    "RouteAction",
    "RouteRule",
    "TcpRoute",
    "VirtualHost",
]


@dataclass(frozen=True, slots=True)
class HeaderOps:
    """Changes of a header list, applied in the order remove, set, add; names as the user wrote them."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Destination:
    """One weighted target; `weight` is relative to the sum of its siblings' weights.

    `host` and `subset` are what the user wrote and what logs and metrics show; `services` are the
    services behind `cluster`, all of which an egress rule must allow.
    """

    cluster: str
    weight: int = 100
    host: str = ""
    subset: str = ""
    services: tuple[ServiceName, ...] = ()
    request_headers: HeaderOps = field(default_factory=HeaderOps)
    response_headers: HeaderOps = field(default_factory=HeaderOps)


@dataclass(frozen=True, slots=True)
class Forward:
    """Invariants: at least one destination; the weights' sum is positive."""

    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class Redirect:
    """Istio `redirect`; None leaves the part of the request's URL as it is."""

    uri: str | None = None
    prefix_rewrite: str | None = None
    authority: str | None = None
    port: int | None = None
    scheme: str | None = None
    code: int = 301


@dataclass(frozen=True, slots=True)
class DirectResponse:
    status: int
    body: str = ""


RouteAction: TypeAlias = Forward | Redirect | DirectResponse


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Istio `rewrite`: `uri` replaces the matched prefix (or the whole exact path); regex is RE2."""

    uri: str | None = None
    regex_match: str | None = None
    regex_rewrite: str = ""
    authority: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Injected at the caller: a delay, an abort, or both, each with its own share of requests in percent."""

    delay_s: float = 0.0
    delay_pct: float = 0.0
    abort_status: int = 0
    abort_pct: float = 0.0


@dataclass(frozen=True, slots=True)
class RouteRule:
    """The first rule of a virtual host of which any match holds decides; no `matches` means every request.

    Args:
        policy: who wrote it, `VirtualService shop/catalog`; empty for the route that every service has.
    """

    action: RouteAction
    name: str = ""
    policy: str = ""
    matches: tuple[RequestMatch, ...] = ()
    rewrite: Rewrite | None = None
    timeout_s: float | None = None
    retry: RetryPolicy = DEFAULT_RETRY
    fault: Fault | None = None
    request_headers: HeaderOps = field(default_factory=HeaderOps)
    response_headers: HeaderOps = field(default_factory=HeaderOps)


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """All rules for one host.

    Args:
        host: the name that logs and metrics show, `catalog` of `shop` is `catalog.shop`.
        domains: the authorities that select it, lower case, without a port.
    """

    host: str
    domains: tuple[str, ...]
    rules: tuple[RouteRule, ...]


@dataclass(frozen=True, slots=True)
class TcpRoute:
    """Where an opaque connection goes; chosen by weight when it is accepted."""

    host: str
    destinations: tuple[Destination, ...]
    policy: str = ""
