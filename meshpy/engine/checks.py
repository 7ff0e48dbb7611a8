"""The parts of an authorization rule as checks: what each looks at, its test, and its words.

Checks of the connection (caller, addresses, port) are settled once per connection, checks of the request
each time. An address that `x-forwarded-for` tells belongs to the request, on opaque ports to the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from meshpy.engine.claims import claim_path
from meshpy.engine.match import (
    MatchError,
    RequestTest,
    StringTest,
    all_of,
    compile_any,
    compile_header_condition,
    compile_hosts,
)
from meshpy.engine.request import Request
from meshpy.engine.verdict import Address, Connection, compile_nets, describe_all, parse_address
from meshpy.model.authz import Condition, Operation, Source
from meshpy.model.match import Exact, Prefix, StringMatch

__all__ = ["Clause", "Reading", "Reduced", "own_trust_domain", "remote_address"]

T = TypeVar("T")

Reduced: TypeAlias = bool | RequestTest
"""What is left of a rule on a given connection."""

_ISTIO_TRUST_DOMAIN = "cluster.local/"
"""In a principal it stands for the mesh's own trust domain, whatever that is (Istio trustdomain.Bundle)."""

_TextsOf: TypeAlias = Callable[[Request], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """One field of a rule: its test, its words, and what it looked at."""

    test: Callable[[T], bool]
    text: str
    seen: Callable[[T], str]

    def failure(self, subject: T) -> str:
        """Why it does not hold; empty when it does."""
        return (
            "" if self.test(subject) else f"{self.text} does not hold for {self.seen(subject) or 'nothing'}"
        )


@dataclass(frozen=True, slots=True)
class RemoteCheck:
    """A check of the address behind `trusted_proxies`, which each request tells anew."""

    check: Check[Address | None]
    trusted_proxies: int

    def bind(self, connection: Connection) -> Check[Request]:
        """The same for the requests of a connection."""

        def read(request: Request) -> Address | None:
            return remote_address(request, connection.ip, self.trusted_proxies)

        test = self.check.test
        return Check(lambda r: test(read(r)), self.check.text, lambda r: str(read(r) or ""))


@dataclass(frozen=True, slots=True)
class Clause:
    """Checks that must all hold, by what they need to be judged."""

    connection: tuple[Check[Connection], ...] = ()
    request: tuple[Check[Request], ...] = ()
    remote: tuple[RemoteCheck, ...] = ()

    def reduce(self, connection: Connection, *, denies: bool) -> Reduced:
        if not all(check.test(connection) for check in self.connection):
            return False
        if connection.opaque:
            if not all(each.check.test(connection.ip) for each in self.remote):
                return False
            return denies or not self.request
        tests = [check.test for check in self.request]
        tests += [each.bind(connection).test for each in self.remote]
        return all_of(tests) or True

    def failure(self, connection: Connection, request: Request | None, *, denies: bool) -> str:
        """The first check that does not hold; empty when all do."""
        for check in self.connection:
            if text := check.failure(connection):
                return text
        if request is None or connection.opaque:
            for each in self.remote:
                if text := each.check.failure(connection.ip):
                    return text
            if self.request and not denies:
                return f"{self.request[0].text} can never hold on an opaque port"
            return ""
        for asked in (*self.request, *(each.bind(connection) for each in self.remote)):
            if text := asked.failure(request):
                return text
        return ""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the parts of one rule are to be understood; see `Rule`."""

    denies: bool
    trust_domain: str
    trusted_proxies: int = 0

    def source(self, source: Source) -> Clause:
        """One `from[].source`."""
        principals = own_trust_domain(source.principals, self.trust_domain)
        not_principals = own_trust_domain(source.not_principals, self.trust_domain)
        checks = _texts("principals", principals, not_principals, lambda connection: connection.principal)
        checks += _texts("namespaces", source.namespaces, source.not_namespaces, lambda c: c.namespace)
        at_peer = _addresses("ipBlocks", source.ip_blocks, source.not_ip_blocks, self.denies)
        checks += _on_connection(at_peer, lambda c: c.ip)
        auth = _on_auth(
            "requestPrincipals",
            source.request_principals,
            source.not_request_principals,
            _auth_reader("request.auth.principal"),
        )
        remote = self._remote("remoteIpBlocks", source.remote_ip_blocks, source.not_remote_ip_blocks)
        return Clause((*checks, *remote.connection), auth, remote.remote)

    def _remote(self, field: str, nets: Sequence[str], not_nets: Sequence[str]) -> Clause:
        checks = _addresses(field, nets, not_nets, self.denies)
        if not self.trusted_proxies:
            return Clause(tuple(_on_connection(checks, lambda c: c.ip)))
        return Clause(remote=tuple(RemoteCheck(check, self.trusted_proxies) for check in checks))

    def operation(self, operation: Operation) -> Clause:
        """One `to[].operation`."""
        ports = _ports("ports", operation.ports, inside=True)
        ports += _ports("not ports", operation.not_ports, inside=False)
        asked: list[Check[Request]] = []
        for field, matches, not_matches, compiler, read in (
            ("hosts", operation.hosts, operation.not_hosts, compile_hosts, _authority),
            ("methods", operation.methods, operation.not_methods, compile_any, _method),
            ("paths", operation.paths, operation.not_paths, _compile_paths, _path),
        ):
            if matches:
                test = _reads(read, compiler(matches))
                asked.append(Check(test, f"{field} {describe_all(matches)}", read))
            if not_matches:
                unwanted = _reads(read, compiler(not_matches))
                text = f"not {field} {describe_all(not_matches)}"
                asked.append(Check(_inverse(unwanted), text, read))
        return Clause(tuple(ports), tuple(asked))

    def condition(self, condition: Condition) -> Clause:
        """One `when[]`.

        Raises:
            MatchError: an unknown key, or values that it does not take.
        """
        key, values, not_values = condition.key, condition.values, condition.not_values
        if key.startswith("request.headers[") and key.endswith("]"):
            name = key[len("request.headers[") : -1].lower()
            test = compile_header_condition(name, values, not_values, denies=self.denies)
            wanted = [f"not {describe_all(not_values)}"] if not_values else []
            wanted += [describe_all(values)] if values else []
            text = f"{key} {' and '.join(wanted)}"
            return Clause(request=(Check(test, text, lambda r: ", ".join(r.headers.get(name, ()))),))
        if key.startswith("request.auth."):
            return Clause(request=_on_auth(key, values, not_values, _auth_reader(key)))
        if key == "remote.ip":
            return self._remote(key, _nets(key, values), _nets(key, not_values))
        return Clause(tuple(self._of_connection(key, values, not_values)))

    def _of_connection(
        self, key: str, values: Sequence[StringMatch], not_values: Sequence[StringMatch]
    ) -> list[Check[Connection]]:
        match key:
            case "source.principal":
                own = [own_trust_domain(matches, self.trust_domain) for matches in (values, not_values)]
                return _texts(key, own[0], own[1], lambda c: c.principal)
            case "source.namespace":
                return _texts(key, values, not_values, lambda c: c.namespace)
            case "connection.sni":
                return _texts(key, values, not_values, lambda c: c.sni)
            case "destination.port":
                return _texts(key, values, not_values, lambda c: str(c.port))
            case "source.ip" | "destination.ip":
                checks = _addresses(key, _nets(key, values), _nets(key, not_values), self.denies)
                return _on_connection(checks, lambda c: c.ip if key == "source.ip" else c.local_ip)
            case _:
                raise MatchError(f"the condition key {key!r} is not known")


def own_trust_domain(matches: Sequence[StringMatch], trust_domain: str) -> tuple[StringMatch, ...]:
    """Principals of `cluster.local` as those of the mesh's own trust domain."""

    def resolve(match: StringMatch) -> StringMatch:
        if isinstance(match, Exact | Prefix) and match.value.startswith(_ISTIO_TRUST_DOMAIN):
            return type(match)(f"{trust_domain}/{match.value.removeprefix(_ISTIO_TRUST_DOMAIN)}")
        return match

    return tuple(resolve(match) for match in matches)


def _texts(
    field: str,
    matches: Sequence[StringMatch],
    not_matches: Sequence[StringMatch],
    read: Callable[[Connection], str],
) -> list[Check[Connection]]:
    """Checks of a text of the connection; an empty one (no identity, no SNI) meets no positive match."""
    checks: list[Check[Connection]] = []
    if matches:
        test = compile_any(matches)
        checks.append(
            Check(lambda c: bool(text := read(c)) and test(text), f"{field} {describe_all(matches)}", read)
        )
    if not_matches:
        unwanted = compile_any(not_matches)
        checks.append(
            Check(
                lambda c: not ((text := read(c)) and unwanted(text)),
                f"not {field} {describe_all(not_matches)}",
                read,
            )
        )
    return checks


def _addresses(
    field: str,
    nets: Sequence[str],
    not_nets: Sequence[str],
    denies: bool,
) -> list[Check[Address | None]]:
    """Checks of an address; one that is unknown is in no net, and outside of nets for DENY rules only."""
    checks: list[Check[Address | None]] = []
    if nets:
        inside = compile_nets(nets)
        text = f"{field} {' | '.join(nets)}"
        checks.append(Check(lambda ip: ip is not None and inside(ip), text, _shown))
    if not_nets:
        unwanted = compile_nets(not_nets)
        text = f"not {field} {' | '.join(not_nets)}"
        checks.append(Check(lambda ip: denies if ip is None else not unwanted(ip), text, _shown))
    return checks


def _shown(ip: Address | None) -> str:
    return str(ip or "an unknown address")


def _on_connection(
    checks: Sequence[Check[Address | None]], read: Callable[[Connection], Address | None]
) -> list[Check[Connection]]:
    def bind(check: Check[Address | None]) -> Check[Connection]:
        return Check(lambda c: check.test(read(c)), check.text, lambda c: check.seen(read(c)))

    return [bind(check) for check in checks]


def _on_auth(
    field: str, matches: Sequence[StringMatch], not_matches: Sequence[StringMatch], read: _TextsOf
) -> tuple[Check[Request], ...]:
    """Checks of what the JWT says: any of its values for `matches`, none of them for `not_matches`."""
    checks: list[Check[Request]] = []

    def seen(request: Request) -> str:
        return ", ".join(read(request))

    if matches:
        wanted = compile_any(matches)
        text = f"{field} {describe_all(matches)}"
        checks.append(Check(lambda r: any(value and wanted(value) for value in read(r)), text, seen))
    if not_matches:
        unwanted = compile_any(not_matches)
        text = f"not {field} {describe_all(not_matches)}"
        checks.append(Check(lambda r: not any(value and unwanted(value) for value in read(r)), text, seen))
    return tuple(checks)


def _auth_reader(key: str) -> _TextsOf:
    match key:
        case "request.auth.principal":
            return lambda request: () if request.auth is None else (request.auth.principal,)
        case "request.auth.presenter":
            return lambda request: () if request.auth is None else (request.auth.presenter,)
        case "request.auth.audiences":
            return lambda request: () if request.auth is None else request.auth.audiences
    if not (key.startswith("request.auth.claims[") and key.endswith("]")):
        raise MatchError(f"the condition key {key!r} is not known")
    path = claim_path(key)
    return lambda request: () if request.auth is None else request.auth.texts(path)


_FORWARDED_FOR = "x-forwarded-for"


def remote_address(request: Request, ip: Address | None, trusted_proxies: int) -> Address | None:
    """The client's address: so many entries of `x-forwarded-for` from the right (xff_num_trusted_hops).

    Whoever sent fewer entries did not come through all proxies, so its own address counts. None: the entry is
    no address.
    """
    if not trusted_proxies:
        return ip
    entries = [entry for value in request.headers.get(_FORWARDED_FOR, ()) for entry in value.split(",")]
    if len(entries) < trusted_proxies:
        return ip
    return parse_address(entries[-trusted_proxies].strip())


def _ports(field: str, ports: Sequence[int], *, inside: bool) -> list[Check[Connection]]:
    if not ports:
        return []
    wanted = frozenset(ports)
    text = f"{field} {' | '.join(map(str, ports))}"
    return [Check(lambda c: (c.port in wanted) is inside, text, lambda c: str(c.port))]


def _compile_paths(matches: Sequence[StringMatch]) -> StringTest:
    return compile_any(matches, path=True)


def _authority(request: Request) -> str:
    return request.authority


def _method(request: Request) -> str:
    return request.method


def _path(request: Request) -> str:
    return request.path


def _reads(read: Callable[[Request], str], test: StringTest) -> RequestTest:
    """One call less for the two fields that most rules name."""
    if read is _method:
        return lambda request: test(request.method)
    if read is _path:
        return lambda request: test(request.path)
    return lambda request: test(read(request))


def _inverse(test: RequestTest) -> RequestTest:
    return lambda request: not test(request)


def _nets(key: str, matches: Sequence[StringMatch]) -> tuple[str, ...]:
    if any(not isinstance(match, Exact) for match in matches):
        raise MatchError(f"{key} takes addresses and CIDRs, not {describe_all(matches)}")
    return tuple(match.value for match in matches if isinstance(match, Exact))
