"""All ways into a mesh: who can send requests where, in one revision or in two that are compared.

A flow is one caller and one place that it can address: a virtual host or opaque port of one of its own
listeners, a published port for callers from outside, the mesh port for identities that no service here has.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshpy.analysis.asked import Tests
from meshpy.analysis.callees import Callees
from meshpy.analysis.domains import AUTHORITY, principals
from meshpy.analysis.flow import Caller, Flow
from meshpy.analysis.listening import (
    domains_matcher,
    hosts_of,
    listeners_of,
    ports_of,
    region_matchers,
    rules_of,
    server_names,
    services_behind,
    services_behind_opaque,
)
from meshpy.analysis.nets import address_classes, label_of
from meshpy.analysis.partition import Matcher, partition
from meshpy.analysis.space import Space
from meshpy.engine.explain import Explanation, Source, at_listener, at_server, at_sidecar, from_outside
from meshpy.engine.prepared import Prepared
from meshpy.engine.request import Peer, Request
from meshpy.engine.verdict import Verdict
from meshpy.model.match import Exact
from meshpy.model.names import ServiceName
from meshpy.model.route import VirtualHost
from meshpy.model.snapshot import OutboundListener

__all__ = ["flows"]

_NOWHERE = Explanation(Verdict(False, "route", reason="nothing leads there"), None)


@dataclass(frozen=True, slots=True)
class _Route:
    """What the flows of all addresses of one caller share."""

    host: str
    port: int
    services: frozenset[ServiceName]
    space: Callable[..., Space]
    alike: tuple[object, ...]


def _spaces(tests: Tests) -> Callable[..., Space]:
    def make(more: Tests | None = None) -> Space:
        if more is None:
            return Space(tests)
        joined = Tests()
        joined.add(tests)
        joined.add(more)
        return Space(joined)

    return make


def flows(old: Prepared, new: Prepared, *, only_changed: bool = False) -> Iterator[Flow]:
    """Every flow of either revision.

    Args:
        only_changed: leave out those that cannot differ, as everything that judges them is equal.
    """
    yield from _Pair(old, new, only_changed=only_changed).all()


class _Pair:
    def __init__(self, old: Prepared, new: Prepared, *, only_changed: bool) -> None:
        self._old, self._new = old, new
        self._names = sorted({*old, *new})
        self._only_changed = only_changed
        self._inbound_same = {name: self._same_inbound(name) for name in self._names}
        self._callees = Callees(old, new)

    def _same_inbound(self, name: ServiceName) -> bool:
        old, new = self._old.get(name), self._new.get(name)
        if old is None or new is None:
            return False
        return (
            old.authorization == new.authorization
            and (old.jwt, old.inbound, old.servers) == (new.jwt, new.inbound, new.servers)
            and old.workload.trust_domain == new.workload.trust_domain
        )

    def all(self) -> Iterator[Flow]:
        for name in self._names:
            yield from self._from_service(name)
        for name in self._names:
            yield from self._through_servers(name)
        for name in self._names:
            if not (self._only_changed and self._inbound_same[name]):
                yield from self._from_outside(name)
                yield from self._from_strangers(name)

    def _addressed(
        self, caller: Caller, tests: Tests, make: Callable[[Caller], Flow], *, with_v6: bool
    ) -> Iterator[Flow]:
        """One flow for each class of the caller's address, one alone where no policy asks."""
        if not tests.nets:
            yield make(caller)
            return
        for holding, address in address_classes(tests.nets, with_v6=with_v6).items():
            nets = label_of(holding, tests.nets)
            yield make(Caller(caller.service, caller.is_stranger, address, nets))

    # callers with a sidecar of their own

    def _from_service(self, name: ServiceName) -> Iterator[Flow]:
        old, new = listeners_of(self._old, name), listeners_of(self._new, name)
        for key in sorted({*old, *new}):
            before, after = old.get(key), new.get(key)
            if all(listener is None or listener.tcp_routes() for listener in (before, after)):
                yield from self._opaque(name, before, after)
            else:
                yield from self._http(name, before, after)

    def _same_egress(self, name: ServiceName) -> bool:
        old, new = self._old.get(name), self._new.get(name)
        return old is not None and new is not None and old.authorization.egress == new.authorization.egress

    def _opaque(
        self, name: ServiceName, before: OutboundListener | None, after: OutboundListener | None
    ) -> Iterator[Flow]:
        services = services_behind_opaque(before) | services_behind_opaque(after)
        if self._only_changed and before == after and self._cannot_differ(name, services):
            return
        tests = Tests()
        for service in services:
            tests.add(self._callees.tests_of(service))
        for server_name in server_names(before, after):
            make = functools.partial(self._opaque_flow, before, after, frozenset(services), server_name)
            yield from self._addressed(Caller(name), tests, make, with_v6=False)

    def _opaque_flow(
        self,
        before: OutboundListener | None,
        after: OutboundListener | None,
        services: frozenset[ServiceName],
        server_name: str,
        caller: Caller,
    ) -> Flow:
        one = after or before
        assert one is not None  # noqa: S101 - one of them has the key
        host = server_name or one.tcp_routes()[-1].host
        return Flow(
            caller,
            host,
            one.port,
            services,
            self._at(self._old, caller, before, server_name),
            self._at(self._new, caller, after, server_name),
            _spaces(Tests()),
            is_opaque=True,
        )

    def _cannot_differ(self, name: ServiceName, services: Iterable[ServiceName]) -> bool:
        return self._same_egress(name) and all(self._inbound_same.get(service, True) for service in services)

    @staticmethod
    def _at(
        side: Prepared, caller: Caller, listener: OutboundListener | None, server_name: str = ""
    ) -> Callable[[Request], Explanation]:
        if listener is None:
            return lambda _request: _NOWHERE
        source = Source(caller.service, caller.address)
        return lambda request: at_listener(side, source, listener, request, server_name)

    def _http(
        self, name: ServiceName, before: OutboundListener | None, after: OutboundListener | None
    ) -> Iterator[Flow]:
        hosts = hosts_of(before, after)
        overlap = any(domain.startswith("*") for host in hosts for domain in host.domains)
        for (old_host, new_host), keep in self._regions(before, after, hosts, overlap=overlap).items():
            old_rules, new_rules = rules_of(before, old_host), rules_of(after, new_host)
            services = {*services_behind(old_rules), *services_behind(new_rules)}
            services |= services_behind_opaque(before) | services_behind_opaque(after)
            if self._only_changed and old_rules == new_rules and self._cannot_differ(name, services):
                continue
            cuts = tuple(region_matchers(hosts, old_host, new_host, overlap=overlap))
            one = after or before
            assert one is not None  # noqa: S101 - a region belongs to a listener
            host = new_host or old_host or ""
            alike = (
                (old_host, new_host, one.port),
                (old_rules, new_rules),
                tuple(sorted(cuts, key=lambda matcher: matcher.label)),
                self._callees.as_peer(name, services),
            )
            space = functools.partial(
                self._callees.space, name, (*old_rules, *new_rules), services, cuts, keep
            )
            route = _Route(host, one.port, frozenset(services), space, alike)
            make = functools.partial(self._routed, before, after, route)
            nets = Tests()
            for service in sorted(services):
                nets.nets.update(self._callees.tests_of(service).nets)
            yield from self._addressed(Caller(name), nets, make, with_v6=False)

    def _routed(
        self, before: OutboundListener | None, after: OutboundListener | None, route: _Route, caller: Caller
    ) -> Flow:
        return Flow(
            caller,
            route.host,
            route.port,
            route.services,
            self._at(self._old, caller, before),
            self._at(self._new, caller, after),
            route.space,
            alike=(*route.alike, caller.address),
        )

    def _regions(
        self,
        before: OutboundListener | None,
        after: OutboundListener | None,
        hosts: Sequence[VirtualHost],
        *,
        overlap: bool,
    ) -> Mapping[tuple[str | None, str | None], Callable[[str], bool]]:
        """Which virtual hosts an authority selects, before and after → the authorities that do."""
        old_router = self._old.router(before) if before is not None else None
        new_router = self._new.router(after) if after is not None else None

        def pair(authority: str) -> tuple[str | None, str | None]:
            return (
                old_router.host_named(authority) if old_router is not None else None,
                new_router.host_named(authority) if new_router is not None else None,
            )

        if overlap:
            found = partition(AUTHORITY, tuple(dict.fromkeys(domains_matcher(host) for host in hosts)))
            authorities = [atom.witness for atom in found.atoms]
        else:
            # without wildcards a domain is a class of its own, and all that is none of them is one
            authorities = [domain for host in hosts for domain in host.domains]
            authorities.append(max(authorities, key=len, default="") + "x")
        pairs = dict.fromkeys(pair(authority) for authority in authorities)
        is_mixed = any(listener is not None and listener.tcp_routes() for listener in (before, after))
        return {
            key: (lambda authority, key=key: pair(authority) == key)  # type: ignore[misc]
            for key in pairs
            if is_mixed or key != (None, None)
        }

    # callers without a sidecar that is known here

    def _from_outside(self, name: ServiceName) -> Iterator[Flow]:
        for port in sorted({*ports_of(self._old, name, edge=True), *ports_of(self._new, name, edge=True)}):

            def make(caller: Caller, port: int = port) -> Flow:
                def ask(side: Prepared) -> Callable[[Request], Explanation]:
                    if name not in side:
                        return lambda _request: _NOWHERE
                    source = Source(None, caller.address)
                    return lambda request: from_outside(side, source, (name,), port, request)

                return self._direct(caller, name, port, ask)

            yield from self._addressed(Caller(), self._callees.tests_of(name), make, with_v6=True)

    def _through_servers(self, name: ServiceName) -> Iterator[Flow]:
        """What Gateways lead on to other services; what they do not is `_from_outside`."""
        old, new = (
            {each.port: each for each in side[name].edge} if name in side else {}
            for side in (self._old, self._new)
        )
        for port in sorted({*old, *new}):
            before, after = old.get(port), new.get(port)
            hosts = hosts_of(before, after)
            for (old_host, new_host), keep in self._regions(before, after, hosts, overlap=True).items():
                rules = (*rules_of(before, old_host), *rules_of(after, new_host))
                services = frozenset({name, *services_behind(rules)})
                same = rules_of(before, old_host) == rules_of(after, new_host)
                if self._only_changed and same and self._cannot_differ(name, services):
                    continue
                cuts = tuple(region_matchers(hosts, old_host, new_host, overlap=True))
                asked = self._callees.tests_of(name)
                space = functools.partial(self._callees.space, name, rules, services, cuts, keep)
                make = functools.partial(
                    self._at_server, name, new_host or old_host or "", port, services, space
                )
                yield from self._addressed(Caller(), asked, make, with_v6=True)

    def _at_server(
        self,
        name: ServiceName,
        host: str,
        port: int,
        services: frozenset[ServiceName],
        space: Callable[[Tests], Space],
        caller: Caller,
    ) -> Flow:
        def ask(side: Prepared) -> Callable[[Request], Explanation]:
            source = Source(None, caller.address)
            return lambda request: at_server(side, source, name, port, request)

        def make(more: Tests | None = None) -> Space:
            joined = Tests()
            joined.add(self._callees.tests_of(name))
            if more is not None:
                joined.add(more)
            return space(joined)

        return Flow(caller, host, port, services, ask(self._old), ask(self._new), make)

    def _from_strangers(self, name: ServiceName) -> Iterator[Flow]:
        for port in sorted({*ports_of(self._old, name), *ports_of(self._new, name)}):
            for service, principal in self._strangers(name):
                caller = Caller(service, is_stranger=True)
                make = functools.partial(self._stranger, name, port, principal)
                yield from self._addressed(caller, self._callees.tests_of(name), make, with_v6=False)

    def _stranger(self, name: ServiceName, port: int, principal: str, caller: Caller) -> Flow:
        def ask(side: Prepared) -> Callable[[Request], Explanation]:
            if name not in side:
                return lambda _request: _NOWHERE
            peer = Peer(caller.service, principal, caller.address)
            return lambda request: at_sidecar(side, name, port, peer, request)

        return self._direct(caller, name, port, ask)

    def _direct(
        self,
        caller: Caller,
        name: ServiceName,
        port: int,
        ask: Callable[[Prepared], Callable[[Request], Explanation]],
    ) -> Flow:
        is_opaque = not any(
            item.protocol.is_http
            for side in (self._old, self._new)
            if name in side
            for item in side[name].inbound
            if item.port == port
        )
        tests = Tests() if is_opaque else self._callees.tests_of(name)
        return Flow(
            caller,
            str(name),
            port,
            frozenset((name,)),
            ask(self._old),
            ask(self._new),
            _spaces(tests),
            is_opaque=is_opaque,
        )

    def _strangers(self, name: ServiceName) -> list[tuple[ServiceName, str]]:
        """An identity of each class that no service has which is known here or named in a selector."""
        side = self._new if name in self._new else self._old
        domain = side[name].workload.trust_domain
        tests = self._callees.tests_of(name)
        groups = {member for group in tests.groups for member in group}
        known = {
            domain + item.spiffe_path: Exact(domain + item.spiffe_path) for item in {*self._names, *groups}
        }
        matchers = tuple(tests.texts.get("principal", ()))
        while True:
            found = partition(principals(domain), matchers)
            exact = {match for matcher in found.matchers for match in matcher.matches}
            seen = [known[atom.witness] for atom in found.atoms if atom.witness in known]
            taken = [match for match in seen if match not in exact]
            if not taken:
                # an atom of one exact principal has no other member
                strangers = [atom.witness for atom in found.atoms if atom.witness not in known]
                return [(_service_of(principal), principal) for principal in strangers]
            matchers += tuple(Matcher(match.value, (match,)) for match in taken)


def _service_of(principal: str) -> ServiceName:
    parts = principal.split("/")
    return ServiceName(parts[2], parts[4])
