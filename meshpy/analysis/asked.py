"""The tests that are made of a request, gathered by the dimension that each reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from meshpy.analysis.partition import Matcher
from meshpy.engine.match import canonical_match, host_matches
from meshpy.engine.verdict import describe_all
from meshpy.model.authn import JwtRule
from meshpy.model.match import Exact, Prefix, Present, StringMatch
from meshpy.model.names import ServiceName

__all__ = ["HeaderTest", "Tests"]

_ONE_BY_ONE = 16

_CLAIMS = {
    "request.auth.principal": "",
    "request.auth.audiences": "aud",
    "request.auth.presenter": "azp",
}
"""Conditions that look at one claim by another name; the principal is issuer and subject."""


@dataclass(frozen=True, slots=True)
class HeaderTest:
    """A test of a header's values: it holds when any (or all) of them match."""

    matcher: Matcher
    of_all: bool


@dataclass(slots=True)
class Tests:
    """What is tested, by dimension; sets are dicts, whose order is that of the rules.

    Args:
        texts: `method`, `path`, `authority`, `principal`, `identity` (of the JWT) → matchers.
        groups: sets of services that the peer is looked up in.
        jwt: claims by their path, `a][b`; a claim may have several values, as a header may.
        only_once: headers of which more than one value is as good as none.
        has_tokens: a workload reads tokens from requests.
        nets: CIDRs that the peer's address is compared with; `local_nets` its own,
            `remote_nets` the client's behind proxies.
        unproved: tests that no class can be drawn from, with the reason.
    """

    texts: dict[str, dict[Matcher, None]] = field(default_factory=lambda: defaultdict(dict))
    headers: dict[str, dict[HeaderTest, None]] = field(default_factory=lambda: defaultdict(dict))
    jwt: dict[str, dict[HeaderTest, None]] = field(default_factory=lambda: defaultdict(dict))
    query: dict[str, dict[Matcher, None]] = field(default_factory=lambda: defaultdict(dict))
    nets: dict[str, None] = field(default_factory=dict)
    local_nets: dict[str, None] = field(default_factory=dict)
    remote_nets: dict[str, None] = field(default_factory=dict)
    groups: dict[frozenset[ServiceName], None] = field(default_factory=dict)
    unproved: dict[str, None] = field(default_factory=dict)
    has_tokens: bool = False
    only_once: set[str] = field(default_factory=set)

    def text(
        self, dimension: str, matches: Sequence[StringMatch], *, part: int | None = None, fold: bool = False
    ) -> None:
        spelled = tuple(matches)
        if dimension == "path":
            spelled = tuple(canonical_match(match) for match in matches)
        # one by one they are read more easily, and long lists are of one kind anyway
        groups = [(match,) for match in spelled] if len(spelled) <= _ONE_BY_ONE else [spelled]
        for group in groups:
            self.texts[dimension][Matcher(describe_all(group), group, part, fold)] = None

    def hosts(self, matches: Sequence[StringMatch]) -> None:
        bare, whole = host_matches(matches)
        self.text("authority", bare, part=0, fold=True)
        self.text("authority", whole, fold=True)

    def header(self, name: str, matches: Sequence[StringMatch], *, of_all: bool) -> None:
        if name == "host":
            # a request has one Host, and it is the authority
            self.text("authority", matches)
        elif matches:
            test = HeaderTest(Matcher(describe_all(matches), tuple(matches)), of_all)
            self.headers[name][test] = None
        else:
            self.headers[name].update({})

    def once(self, name: str, matches: Sequence[StringMatch]) -> None:
        """A header that counts only when it is sent once and is not empty (CORS)."""
        for match in (Present(), *matches):
            self.headers[name][HeaderTest(Matcher(describe_all((match,)), (match,)), False)] = None
        self.only_once.add(name)

    def claim(self, key: str, matches: Sequence[StringMatch]) -> None:
        """A test of what the JWT says, by the claim that holds it."""
        if not matches:
            return
        name = _CLAIMS[key] if key in _CLAIMS else key.removeprefix("request.auth.claims[").removesuffix("]")
        if name in ("iss", "sub", ""):
            part = {"iss": 0, "sub": 2}.get(name)
            for match in matches:
                self.texts["identity"][Matcher(describe_all((match,)), (match,), part)] = None
        else:
            self.jwt[name][HeaderTest(Matcher(describe_all(matches), tuple(matches)), False)] = None

    def token(self, rule: JwtRule) -> None:
        """Where a workload looks for tokens, and what it asks of them before any policy does."""
        self.has_tokens = True
        self.claim("request.auth.claims[iss]", (Exact(rule.issuer),))
        self.claim("request.auth.audiences", tuple(Exact(audience) for audience in rule.audiences))
        for header in rule.from_headers:
            match = Prefix(header.prefix) if header.prefix else Present()
            fold = header.name == "authorization"
            matcher = Matcher(describe_all((match,)), (match,), fold=fold)
            self.headers[header.name][HeaderTest(matcher, False)] = None
        for name in rule.from_params:
            self.query[name].update({})
        if rule.from_cookies:
            self.unproved[f"tokens in cookies ({rule.policy} {rule.name})"] = None
        for name in (rule.payload_header, *(header for header, _ in rule.claim_headers)):
            if name in self.headers:
                self.unproved[f"header {name}, which {rule.policy} takes from the token"] = None

    def add(self, other: Tests) -> None:
        """Take in what another has."""
        for mine, theirs in ((self.texts, other.texts), (self.query, other.query)):
            for name, matchers in theirs.items():
                mine[name].update(matchers)
        for ours, others in ((self.headers, other.headers), (self.jwt, other.jwt)):
            for name, tests in others.items():
                ours[name].update(tests)
        self.nets.update(other.nets)
        self.local_nets.update(other.local_nets)
        self.remote_nets.update(other.remote_nets)
        self.groups.update(other.groups)
        self.unproved.update(other.unproved)
        self.only_once |= other.only_once
        self.has_tokens = self.has_tokens or other.has_tokens
