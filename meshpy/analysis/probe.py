"""Exploring a space: a probe notes what the engine reads of it, and only along that the space is split.

What the engine did not look at cannot have had a part in its answer. The cells that come out are disjoint and
cover the space, and the engine itself has judged a witness of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from meshpy.analysis.space import Space
from meshpy.engine.claims import RequestAuth
from meshpy.engine.request import Request

__all__ = ["MOST_CELLS", "Cell", "Probe", "Remembered", "TooManyClasses", "explore"]

T = TypeVar("T")

MOST_CELLS = 200_000


class TooManyClasses(Exception):  # noqa: N818 - a limit, reported as such
    """The question has more classes than are worth asking; `cells` are those that were judged."""

    def __init__(self, what: str, cells: Sequence[Cell[Any]] = ()) -> None:
        super().__init__(what)
        self.cells = tuple(cells)


class Probe(Request):
    """A request that notes which of its dimensions are read."""

    __slots__ = ("_headers", "_space", "_token", "fixed", "read")

    def __init__(self, space: Space, fixed: Mapping[str, int]) -> None:
        self._space = space
        self.fixed = fixed
        self.read: dict[str, None] = {}
        self._headers = _Headers(self)
        self._token = _Token(self)

    def _see(self, name: str) -> tuple[str, ...] | None:
        dimension = self._space.dimensions[name]
        self.read[name] = None
        return dimension.values[self.fixed.get(name, 0)].shown

    def _text(self, name: str) -> str:
        shown = self._see(name)
        return shown[0] if shown else ""

    @property
    def method(self) -> str:  # type: ignore[override]
        return self._text("method")

    @property
    def path(self) -> str:  # type: ignore[override]
        return self._text("path")

    @property
    def authority(self) -> str:  # type: ignore[override]
        return self._text("authority")

    @property
    def scheme(self) -> str:  # type: ignore[override]
        return "http"

    @property
    def query(self) -> str:  # type: ignore[override]
        pairs = [(name[6:], self._see(name)) for name in self._space.queries]
        return "&".join(f"{name}={shown[0]}" for name, shown in pairs if shown is not None)

    @property
    def headers(self) -> Mapping[str, Sequence[str]]:  # type: ignore[override]
        return self._headers

    @property
    def auth(self) -> RequestAuth | None:  # type: ignore[override]
        return self._token if self.identity() is not None else None

    def identity(self) -> tuple[str, ...] | None:
        """Issuer and, when the token has one, subject; None without a token."""
        return self._see("identity") if "identity" in self._space.dimensions else None

    def claim(self, path: str) -> tuple[str, ...]:
        """The values of a claim, `a][b`."""
        identity = self.identity() or ()
        if path in ("iss", "sub"):
            return identity[:1] if path == "iss" else identity[1:]
        return (self._see(f"jwt:{path}") or ()) if f"jwt:{path}" in self._space.dimensions else ()

    def payload(self) -> dict[str, Any] | None:
        """What the request's JWT says; None without one."""
        identity = self.identity()
        if identity is None:
            return None
        payload: dict[str, Any] = dict(zip(("iss", "sub"), identity, strict=False))
        for name in self._space.claims:
            shown = self._see(name)
            if shown is not None:
                *parents, last = name[4:].split("][")
                inner = payload
                for parent in parents:
                    found = inner.setdefault(parent, {})
                    inner = found if isinstance(found, dict) else {}
                inner[last] = shown[0] if last == "azp" else list(shown)
        return payload

    def header(self, name: str) -> Sequence[str] | None:
        if name == "host":
            return [self.authority]
        if f"header:{name}" not in self._space.dimensions:
            return None
        shown = self._see(f"header:{name}")
        return None if shown is None else list(shown)

    def plain(self) -> Request:
        """The request as it would be sent."""
        headers = {name: list(values) for name, values in self.headers.items()}
        return Request(self.method, self.path, self.query, self.authority, self.scheme, headers, self.auth)


class _Token(RequestAuth):
    """The token of a probe: what is not asked of it is not read."""

    __slots__ = ("_probe",)
    _probe: Probe

    def __init__(self, probe: Probe) -> None:
        object.__setattr__(self, "_probe", probe)

    @property
    def principal(self) -> str:
        identity = self._probe.identity() or ()
        return "/".join(identity) if len(identity) == 2 else ""

    @property
    def audiences(self) -> tuple[str, ...]:
        return self._probe.claim("aud")

    @property
    def presenter(self) -> str:
        return next(iter(self._probe.claim("azp")), "")

    @property
    def claims(self) -> Mapping[str, Any]:
        return _Claims(self._probe)

    def texts(self, path: Sequence[str]) -> tuple[str, ...]:
        return self._probe.claim("][".join(path))


class _Claims(Mapping[str, Any]):
    """Issuer and audience are read alone; whoever asks for more reads the whole token."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def __getitem__(self, name: str) -> Any:
        if name not in ("iss", "aud"):
            return (self._probe.payload() or {})[name]
        values = self._probe.claim(name)
        if not values:
            raise KeyError(name)
        return values[0] if name == "iss" else list(values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._probe.payload() or {})

    def __len__(self) -> int:
        return len(self._probe.payload() or {})


class _Headers(Mapping[str, Sequence[str]]):
    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def __getitem__(self, name: str) -> Sequence[str]:
        found = self._probe.header(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        names = ("host", *self._probe._space.headers)
        return (name for name in names if self._probe.header(name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Branch(Generic[T]):
    """A dimension that was read here, and what followed for the values met so far."""

    __slots__ = ("below", "dimension")

    def __init__(self, dimension: str) -> None:
        self.dimension = dimension
        self.below: dict[int, _Branch[T] | _Leaf[T]] = {}


class _Leaf(Generic[T]):
    __slots__ = ("answer",)

    def __init__(self, answer: T) -> None:
        self.answer = answer


class Remembered(Generic[T]):
    """Asks once for each class that `ask` itself tells apart, however finely the space is cut.

    What is read next depends on what was read before alone, so the readings of all probes of a space are one
    tree.
    """

    __slots__ = ("_ask", "_root", "_space")

    def __init__(self, space: Space, ask: Callable[[Probe], T]) -> None:
        self._space = space
        self._ask = ask
        self._root: _Branch[T] | _Leaf[T] | None = None

    def __call__(self, probe: Probe) -> T:
        """The answer; the probe notes what it depends on."""
        node, fixed, read = self._root, probe.fixed, probe.read
        while isinstance(node, _Branch):
            read[node.dimension] = None
            node = node.below.get(fixed.get(node.dimension, 0))
        if node is not None:
            return node.answer
        fresh = Probe(self._space, fixed)
        answer = self._ask(fresh)
        read.update(fresh.read)
        self._grow(tuple(fresh.read), fixed, _Leaf(answer))
        return answer

    def _grow(self, names: Sequence[str], fixed: Mapping[str, int], leaf: _Leaf[T]) -> None:
        if not names:
            self._root = leaf
            return
        node = self._root
        if node is None:
            node = self._root = _Branch(names[0])
        for name, following in zip(names, (*names[1:], None), strict=True):
            assert isinstance(node, _Branch)  # noqa: S101 - the readings of all probes are one tree
            assert node.dimension == name  # noqa: S101
            value = fixed.get(name, 0)
            below = node.below.get(value)
            if below is None:
                below = node.below[value] = leaf if following is None else _Branch(following)
            node = below


@dataclass(frozen=True, slots=True)
class Cell(Generic[T]):
    """A class of requests with one answer.

    Args:
        fixed: the number of the value of each dimension that matters; the others may have any.
    """

    fixed: Mapping[str, int]
    answer: T


def explore(space: Space, ask: Callable[[Probe], T], most: int = MOST_CELLS) -> list[Cell[T]]:
    """Every class of the space with its answer.

    Args:
        most: how many classes may be made.

    Raises:
        TooManyClasses: the limit was met.
    """
    cells: list[Cell[T]] = []
    if not all(dimension.values for dimension in space.dimensions.values()):
        return cells
    stack: list[tuple[dict[str, int], tuple[T, tuple[str, ...]] | None]] = [({}, None)]
    while stack:
        fixed, known = stack.pop()
        if known is None:
            probe = Probe(space, fixed)
            answer = ask(probe)
            known = (answer, tuple(name for name in probe.read if len(space.dimensions[name].values) > 1))
        split = next((name for name in known[1] if name not in fixed), None)
        if split is None:
            if len(cells) >= most:
                raise TooManyClasses(f"there are more than {most:,} classes of requests", cells)
            cells.append(Cell(fixed, known[0]))
            continue
        others = range(len(space.dimensions[split].values) - 1, 0, -1)
        stack += [({**fixed, split: number}, None) for number in others]
        # a probe shows the first value of what is not fixed, so that this answer is known already
        stack.append(({**fixed, split: 0}, known))
    return cells
