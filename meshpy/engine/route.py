"""Routing: which virtual host, which rule, which destination.

The virtual host is chosen by authority (without port): the exact domain, then the longest `*.suffix`, then
`*`, then the listener's default. In it the first rule of which any match holds decides.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias, assert_never

from meshpy.engine.cors import CorsJudge, Grant, Preflight
from meshpy.engine.match import MatchError, RequestTest, compile_request, is_connect
from meshpy.engine.pathindex import LINEAR_UP_TO, PathIndex
from meshpy.engine.request import Request, host_of
from meshpy.engine.rewrite import PathRewrite, RewrittenTarget, compile_path_rewrite, location
from meshpy.model.match import RequestMatch
from meshpy.model.route import Destination, DirectResponse, Forward, Redirect, RouteRule, VirtualHost
from meshpy.model.snapshot import OutboundListener

__all__ = [
    "Direct",
    "NoRoute",
    "Redirected",
    "Routed",
    "Router",
    "Routing",
    "WeightedChoice",
]


_MEMO_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class Routed:
    """The request goes to `destination`.

    Args:
        virtual_host: the host that logs and metrics show.
        target: path and query when a rewrite changed them; None: as received.
        authority: when a rewrite changed it; None: as received.
        match_name: of the match that held, empty when it has none.
        grant: what the answer tells a page of another origin; None for all other requests.
    """

    rule: RouteRule
    destination: Destination
    virtual_host: str
    target: RewrittenTarget | None = None
    authority: str | None = None
    match_name: str = ""
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class Redirected:
    rule: RouteRule
    virtual_host: str
    status: int
    location: str
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class Direct:
    """An answer of the route itself; `is_preflight`: of its CORS policy."""

    rule: RouteRule
    virtual_host: str
    status: int
    body: bytes
    grant: Grant | None = None
    is_preflight: bool = False


@dataclass(frozen=True, slots=True)
class NoRoute:
    """404 with the flag NR; 500 when a rewrite has no valid result, or the backend is none.

    Args:
        cause: one word for the log.
    """

    reason: str
    virtual_host: str = ""
    status: int = 404
    cause: str = "route_not_found"


Routing: TypeAlias = Routed | Redirected | Direct | NoRoute


class WeightedChoice:
    """Destinations by weight: the draw in [0, 1) is cut into intervals in the order they are written.

    Raises:
        MatchError: no destination has a weight.
    """

    __slots__ = ("_bounds", "_items", "_total")

    def __init__(self, destinations: Sequence[Destination]) -> None:
        weighted = [item for item in destinations if item.weight > 0]
        if not weighted:
            raise MatchError("no destination has a weight above 0")
        self._items = tuple(weighted)
        self._bounds = tuple(accumulate(item.weight for item in weighted))
        self._total = self._bounds[-1]

    def index(self, draw: float) -> int:
        if len(self._items) == 1:
            return 0
        return min(bisect_right(self._bounds, draw * self._total), len(self._items) - 1)

    def pick(self, draw: float) -> Destination:
        return self._items[self.index(draw)]

    def shares(self) -> list[tuple[Destination, float]]:
        """Each destination with its share of requests."""
        return [(item, item.weight / self._total) for item in self._items]


class _Entry:
    """One match of one rule, ready to answer. Routes without a path rewrite are answered by ready values."""

    __slots__ = ("_body", "_choice", "_cors", "_match", "_port", "_ready", "_rewrite", "host", "rule", "test")

    def __init__(self, host: str, rule: RouteRule, match: RequestMatch | None, port: int | None) -> None:
        self.host = host
        self.rule = rule
        self._match = match
        self.test: RequestTest | None = compile_request(match, port=port) if match is not None else None
        self._rewrite: PathRewrite | None = (
            compile_path_rewrite(rule.rewrite, match) if rule.rewrite else None
        )
        self._port = port
        self._cors = CorsJudge(rule.cors) if rule.cors is not None else None
        self._choice: WeightedChoice | None = None
        self._ready: tuple[Routed | NoRoute, ...] = ()
        self._body = b""
        if isinstance(rule.action, Forward):
            self._choice = WeightedChoice(rule.action.destinations)
            self._ready = tuple(self._made_ready(item) for item, _ in self._choice.shares())
        elif isinstance(rule.action, DirectResponse):
            encoded = rule.action.body_base64
            self._body = base64.b64decode(encoded) if encoded else rule.action.body.encode()

    def _made_ready(self, item: Destination) -> Routed | NoRoute:
        if item.refusal:
            return NoRoute(item.refusal, self.host, item.refusal_status, "invalid_backend")
        authority = self.rule.rewrite.authority if self.rule.rewrite else None
        name = self._match.name if self._match is not None else ""
        return Routed(self.rule, item, self.host, None, authority, name)

    def answer(self, request: Request, draw: float) -> Routing:
        grant: Grant | None = None
        if self._cors is not None:
            found = self._cors.judge(request)
            if isinstance(found, Preflight):
                return Direct(self.rule, self.host, found.status, b"", found.grant, is_preflight=True)
            grant = found
        action = self.rule.action
        match action:
            case Forward():
                return self._forward(request, draw, grant)
            case Redirect():
                url = location(action, self._match, request, self._port)
                return Redirected(self.rule, self.host, action.code, url, grant)
            case DirectResponse():
                return Direct(self.rule, self.host, action.status, self._body, grant)
            case _:  # pragma: no cover
                assert_never(action)

    def _forward(self, request: Request, draw: float, grant: Grant | None) -> Routing:
        index = self._choice.index(draw) if self._choice is not None else 0
        ready = self._ready[index]
        if (self._rewrite is None and grant is None) or isinstance(ready, NoRoute):
            return ready
        target = self._rewrite(request) if self._rewrite is not None else None
        if isinstance(target, str):
            return NoRoute(target, self.host, 500, "rewrite_failed")
        return Routed(
            self.rule, ready.destination, self.host, target, ready.authority, ready.match_name, grant
        )


class _Host:
    """The rules of one virtual host."""

    __slots__ = ("_entries", "_index", "host")

    def __init__(self, virtual_host: VirtualHost, port: int | None, *, allows_connect: bool = False) -> None:
        self.host = virtual_host.host
        pairs = [(rule, match) for rule in virtual_host.rules for match in rule.matches or (None,)]
        self._entries = tuple(_Entry(self.host, rule, match, port) for rule, match in pairs)
        if allows_connect:
            for entry, (_, match) in zip(self._entries, pairs, strict=True):
                if not is_connect(match):
                    entry.test = _but_connect(entry.test)
        indexed = len(pairs) > LINEAR_UP_TO
        self._index = PathIndex.of_matches([match for _, match in pairs]) if indexed else None

    def route(self, request: Request, draw: float) -> Routing:
        entry = self.entry(request)
        if entry is None:
            return NoRoute(f"no rule of {self.host} matches {request.method} {request.path}", self.host)
        return entry.answer(request, draw)

    def entry(self, request: Request) -> _Entry | None:
        entries = self._entries
        if self._index is None:
            for entry in entries:
                if entry.test is None or entry.test(request):
                    return entry
            return None
        for rank in self._index.candidates(request.path):
            entry = entries[rank]
            if entry.test is None or entry.test(request):
                return entry
        return None


def _but_connect(test: RequestTest | None) -> RequestTest:
    """A match that does not name CONNECT never takes one."""
    if test is None:
        return lambda request: request.method != "CONNECT"
    return lambda request: request.method != "CONNECT" and test(request)


class Router:
    """The routes of one outbound listener, built once per snapshot.

    Args:
        port: of the listener; matches that name another port never hold.
        depends_on_headers: True when any match looks at a header.
        depends_on_query: True when any match looks at the query.
        allows_connect: True when a match means CONNECT by name; without one the method is refused.

    Raises:
        MatchError: an expression that cannot be judged, or a route whose destinations have no weight.
    """

    __slots__ = (
        "_default",
        "_domains",
        "_memo",
        "_wildcard",
        "allows_connect",
        "depends_on_headers",
        "depends_on_query",
    )

    def __init__(
        self, virtual_hosts: Sequence[VirtualHost], default_host: str = "", *, port: int | None = None
    ) -> None:
        rules = [rule for item in virtual_hosts for rule in item.rules]
        matches = [match for rule in rules for match in rule.matches]
        self.allows_connect = any(is_connect(match) for match in matches)
        hosts = [_Host(item, port, allows_connect=self.allows_connect) for item in virtual_hosts]
        self._domains: dict[str, _Host] = {}
        for item, host in zip(virtual_hosts, hosts, strict=True):
            for domain in item.domains:
                self._domains.setdefault(domain.lower(), host)
        self._wildcard = self._domains.get("*")
        self._default = next((host for host in hosts if default_host and host.host == default_host), None)
        self.depends_on_headers = any(match.headers for match in matches) or any(rule.cors for rule in rules)
        self.depends_on_query = any(match.query for match in matches)
        self._memo: dict[str, _Host | None] = {}

    @classmethod
    def of_listener(cls, listener: OutboundListener) -> Router:
        """The router of an HTTP listener."""
        return cls(listener.virtual_hosts, listener.default_host, port=listener.port)

    def route(self, request: Request, draw: float) -> Routing:
        """Where the request goes.

        Args:
            draw: in [0, 1), even; it chooses among weighted destinations.
        """
        host = self._host(request.authority)
        if host is None:
            return NoRoute(f"no service here answers to {request.authority!r}")
        return host.route(request, draw)

    def host_named(self, authority: str) -> str | None:
        """The virtual host that an authority selects; None when nothing answers to it."""
        found = self._host(authority)
        return found.host if found is not None else None

    def rule_for(self, request: Request) -> tuple[RouteRule, str] | NoRoute:
        """The rule that decides and its virtual host, before any destination is drawn."""
        host = self._host(request.authority)
        if host is None:
            return NoRoute(f"no service here answers to {request.authority!r}")
        entry = host.entry(request)
        if entry is None:
            return NoRoute(f"no rule of {host.host} matches {request.method} {request.path}", host.host)
        return entry.rule, host.host

    def _host(self, authority: str) -> _Host | None:
        memo = self._memo
        if authority in memo:
            return memo[authority]
        if len(memo) >= _MEMO_ENTRIES:
            memo.clear()
        found = memo[authority] = self._look_up(host_of(authority))
        return found

    def _look_up(self, host: str) -> _Host | None:
        if (found := self._domains.get(host)) is not None and host != "*":
            return found
        rest = host
        while "." in rest:
            rest = rest.partition(".")[2]
            if (found := self._domains.get(f"*.{rest}")) is not None:
                return found
        return self._wildcard or self._default
