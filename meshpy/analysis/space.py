"""The space of requests that one question is about: dimensions, and the classes of their values.

A dimension has finitely many values, each standing for a class of texts that no test tells apart
(`partition`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshpy.analysis.asked import HeaderTest, Tests
from meshpy.analysis.domains import AUTHORITY, CLAIM, HEADER, IDENTITY, METHOD, PATH, QUERY, Domain
from meshpy.analysis.language import MARK
from meshpy.analysis.partition import Matcher, Partition, part_of, partition
from meshpy.engine.claims import RequestAuth
from meshpy.engine.match import query_values
from meshpy.engine.request import Request

__all__ = ["Dimension", "Space", "Value"]

_MAX_HEADER_CLASSES = 256


@dataclass(frozen=True, slots=True)
class Value:
    """One class of a dimension: what to send for it; None is: not there.

    Args:
        atoms: of the dimension's partition that it stands for.
    """

    shown: tuple[str, ...] | None
    atoms: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Dimension:
    name: str
    partition: Partition
    values: tuple[Value, ...]
    tests: tuple[HeaderTest, ...] = ()
    bounded: str = ""
    only_once: bool = False


class Space:
    """Dimensions by name: `method`, `path`, `authority`, `header:NAME`, `query:NAME`, `identity`
    (issuer and subject of the JWT), `jwt:CLAIM`.

    Args:
        keep_authority: for which authorities the question is asked; None is all.
        whole: the tests of all who ask alike, of which these are some.
    """

    def __init__(
        self,
        tests: Tests,
        keep_authority: Callable[[str], bool] | None = None,
        whole: Tests | None = None,
    ) -> None:
        everything = whole or tests
        self.dimensions: dict[str, Dimension] = {}
        self.unproved = dict(tests.unproved)
        for name, domain in (("authority", AUTHORITY), ("method", METHOD), ("path", PATH)):
            cut, others = (tuple(each.texts.get(name, ())) for each in (tests, everything))
            self._texts(name, part_of(domain, cut, others), keep_authority)
        for name, header_tests in tests.headers.items():
            at_most = 1 if name in tests.only_once else 99
            self._values(f"header:{name}", tuple(header_tests), at_most=at_most)
        if tests.jwt or tests.texts.get("identity") or tests.has_tokens:
            self._identity(partition(IDENTITY, tuple(tests.texts.get("identity", ()))))
        for key, claim_tests in tests.jwt.items():
            self._values(f"jwt:{key}", tuple(claim_tests), CLAIM, at_most=1 if key == "azp" else 99)
        for name, matchers in tests.query.items():
            self._query(name, tuple(matchers))
        self.queries = tuple(name for name in self.dimensions if name.startswith("query:"))
        self.claims = tuple(name for name in self.dimensions if name.startswith("jwt:"))
        self.headers = tuple(name[7:] for name in self.dimensions if name.startswith("header:"))

    def _texts(self, name: str, found: Partition, keep: Callable[[str], bool] | None) -> None:
        values = tuple(
            Value((atom.witness,), frozenset({number}))
            for number, atom in enumerate(found.atoms)
            if name != "authority" or keep is None or keep(atom.witness)
        )
        self._add(Dimension(name, found, values))

    def _add(self, dimension: Dimension) -> None:
        self.dimensions[dimension.name] = dimension
        for matcher, why in dimension.partition.opaque:
            self.unproved[f"{dimension.name} {matcher.label} ({why})"] = None
        if dimension.bounded:
            self.unproved[dimension.bounded] = None

    def _values(
        self, name: str, tests: tuple[HeaderTest, ...], domain: Domain = HEADER, *, at_most: int = 99
    ) -> None:
        found = partition(domain, tuple(dict.fromkeys(test.matcher for test in tests)))
        known = tuple(test for test in tests if test.matcher in found.matchers)
        values, complete = _value_lists(found, known, at_most)
        bounded = "" if complete else f"{name} with many values at once"
        once = at_most == 1 and name.startswith("header:")
        self._add(Dimension(name, found, (Value(None), *values), known, bounded, once))

    def _identity(self, found: Partition) -> None:
        """Nobody's token; issuer and subject; and for each sort of issuer a token without a subject."""
        values = [Value(None)]
        anonymous: dict[int, str] = {}
        issuers = sum(1 << n for n, matcher in enumerate(found.matchers) if matcher.part == 0)
        for number, atom in enumerate(found.atoms):
            issuer, _, subject = atom.witness.split(chr(MARK))
            values.append(Value((issuer, subject), frozenset({number})))
            anonymous.setdefault(atom.bits & issuers, issuer)
        values += [Value((issuer,)) for issuer in anonymous.values()]
        self._add(Dimension("identity", found, tuple(values)))

    def _query(self, name: str, matchers: tuple[Matcher, ...]) -> None:
        found = partition(QUERY, matchers)
        values = [Value((atom.witness,), frozenset({n})) for n, atom in enumerate(found.atoms)]
        self._add(Dimension(f"query:{name}", found, (Value(None), *values)))

    def find(self, request: Request) -> dict[str, int] | None:
        """The value of each dimension that a request has; None when it is outside of the space."""
        found: dict[str, int] = {}
        query = query_values(request.query)
        for name, dimension in self.dimensions.items():
            kind, _, key = name.partition(":")
            if kind == "header":
                received: Sequence[str] | None = request.headers.get(key)
            elif kind == "identity":
                number = _identity_number(dimension, request.auth)
                if number is None:
                    return None
                found[name] = number
                continue
            elif kind == "jwt":
                received = _claim(request.auth, key)
            elif kind == "query":
                received = [query[key]] if key in query else None
            else:
                received = [str(getattr(request, kind))]
            number = _number(dimension, received)
            if number is None:
                return None
            found[name] = number
        return found


def _number(dimension: Dimension, received: Sequence[str] | None) -> int | None:
    if not received or (dimension.only_once and len(received) > 1):
        return next((i for i, value in enumerate(dimension.values) if value.shown is None), None)
    atoms = [dimension.partition.find(text) for text in received]
    if any(atom is None for atom in atoms):
        return None
    present = [atom for atom in atoms if atom is not None]
    if not dimension.name.startswith(("header:", "jwt:")):
        return next((i for i, v in enumerate(dimension.values) if present[0] in v.atoms), None)
    found, tests = dimension.partition, dimension.tests
    wanted = _signature(found, tests, present)
    for number, value in enumerate(dimension.values):
        if value.shown is not None and _signature(found, tests, value.atoms) == wanted:
            return number
    return None


def _signature(
    found: Partition, tests: Sequence[HeaderTest], atoms: Sequence[int] | frozenset[int]
) -> tuple[bool, ...]:
    """Which tests of a header hold for a list with values of these atoms."""
    positions = {matcher: index for index, matcher in enumerate(found.matchers)}
    return tuple(
        (all if test.of_all else any)(found.atoms[a].bits >> positions[test.matcher] & 1 for a in atoms)
        for test in tests
    )


def _value_lists(found: Partition, tests: Sequence[HeaderTest], at_most: int) -> tuple[list[Value], bool]:
    """A list of values for each outcome that some list has, the shortest first; False: there are more."""
    values: dict[tuple[bool, ...], Value] = {}
    frontier = [frozenset({number}) for number in range(len(found.atoms))]
    while frontier:
        following: list[frozenset[int]] = []
        for atoms in frontier:
            signature = _signature(found, tests, atoms)
            if signature in values:
                continue
            if len(values) >= _MAX_HEADER_CLASSES:
                return list(values.values()), False
            values[signature] = Value(tuple(found.atoms[a].witness for a in sorted(atoms)), atoms)
            if len(atoms) >= at_most:
                continue
            following += [atoms | {number} for number in range(len(found.atoms)) if number not in atoms]
        frontier = following
    return list(values.values()), True


def _claim(auth: RequestAuth | None, path: str) -> Sequence[str]:
    """The values of a claim; empty ones count for nothing."""
    return [value for value in auth.texts(path.split("][")) if value] if auth is not None else ()


def _identity_number(dimension: Dimension, auth: RequestAuth | None) -> int | None:
    if auth is None:
        return 0
    issuer, subject = (next(iter(auth.texts((name,))), "") for name in ("iss", "sub"))
    atom = dimension.partition.find(f"{issuer}\n{subject or 'x'}")
    if atom is None:
        return None
    if subject:
        return next((i for i, value in enumerate(dimension.values) if atom in value.atoms), None)
    issuers = sum(1 << n for n, m in enumerate(dimension.partition.matchers) if m.part == 0)
    wanted = dimension.partition.atoms[atom].bits & issuers
    for number, value in enumerate(dimension.values):
        if value.shown is not None and len(value.shown) == 1:
            other = dimension.partition.find(f"{value.shown[0]}\nx")
            if other is not None and dimension.partition.atoms[other].bits & issuers == wanted:
                return number
    return None
