"""Routes: what becomes of a request that a caller sends to a host."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from meshpy.model.match import RequestMatch, StringMatch
from meshpy.model.names import ServiceName
from meshpy.model.resilience import DEFAULT_RETRY, RetryPolicy

__all__ = [
    "Cors",
    "DerivePort",
    "Destination",
    "DirectResponse",
    "Fault",
    "Forward",
    "HeaderOps",
    "Mirror",
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

    Args:
        refusal: why nothing can be sent there (Gateway API: an invalid backend); its share of requests is
            answered with `refusal_status`, and `cluster` is empty.
    """

    cluster: str
    weight: int = 100
    host: str = ""
    subset: str = ""
    services: tuple[ServiceName, ...] = ()
    request_headers: HeaderOps = field(default_factory=HeaderOps)
    response_headers: HeaderOps = field(default_factory=HeaderOps)
    refusal: str = ""
    refusal_status: int = 500


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of `pct` percent of the requests goes to `destination`; nobody waits for its answer."""

    destination: Destination
    pct: float = 100.0


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages of other origins may read the answers (Fetch §3.2).

    Args:
        allow_methods, allow_headers: `*` is any.
        max_age_s: how long a browser may keep the answer to a preflight; None leaves it to the browser.
        forward_unmatched: a preflight of another origin goes to the destination; False: it is answered here.
    """

    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age_s: int | None = None
    allow_credentials: bool = False
    forward_unmatched: bool = True


@dataclass(frozen=True, slots=True)
class Forward:
    """Invariants: at least one destination; the weights' sum is positive."""

    destinations: tuple[Destination, ...]


class DerivePort(StrEnum):
    """Where a redirect's port comes from when none is written (Istio)."""

    FROM_PROTOCOL_DEFAULT = "FROM_PROTOCOL_DEFAULT"
    FROM_REQUEST_PORT = "FROM_REQUEST_PORT"


@dataclass(frozen=True, slots=True)
class Redirect:
    """Istio `redirect`; None leaves the part of the request's URL as it is."""

    uri: str | None = None
    prefix_rewrite: str | None = None
    authority: str | None = None
    port: int | None = None
    scheme: str | None = None
    code: int = 301
    derive_port: DerivePort | None = None


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """`body_base64` is for content that is no text; one of the two is given at most."""

    status: int
    body: str = ""
    body_base64: str = ""


RouteAction: TypeAlias = Forward | Redirect | DirectResponse


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Istio `rewrite`: `uri` replaces the matched prefix (or the whole exact path); regex is RE2.

    Args:
        full_path: replaces the whole path whatever was matched (Gateway API ReplaceFullPath).
    """

    uri: str | None = None
    regex_match: str | None = None
    regex_rewrite: str = ""
    authority: str | None = None
    full_path: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Injected at the caller: a delay, an abort, or both, each with its own share of requests in percent.

    Args:
        abort_grpc_status: aborts as gRPC does; `abort_status` is then what callers without gRPC get.
    """

    delay_s: float = 0.0
    delay_pct: float = 0.0
    abort_status: int = 0
    abort_pct: float = 0.0
    abort_grpc_status: int | None = None


@dataclass(frozen=True, slots=True)
class RouteRule:
    """The first rule of a virtual host of which any match holds decides; no `matches` means every request.

    Args:
        policy: who wrote it, `VirtualService shop/catalog`; empty for the route that every service has.
        via: the VirtualService that delegated to `policy`; empty without a delegation.
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
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None
    via: str = ""


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
    """Where an opaque connection goes; chosen by weight when it is accepted.

    Args:
        sni_hosts: the server names of a TLS ClientHello that it is for, exact or `*.suffix`; empty: any
            bytes.
        subnets: where the connection's destination address must be; empty: anywhere.
    """

    host: str
    destinations: tuple[Destination, ...]
    policy: str = ""
    sni_hosts: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
