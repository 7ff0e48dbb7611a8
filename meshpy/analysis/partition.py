"""The partition of all texts of a dimension into the cells that its matchers tell apart.

All automata run at once over the texts of the domain, shortest text first; each combination of accepting
automata that a text reaches is a cell, and that text its witness. What no text reaches is no cell, so
whatever is said of all cells is said of all texts.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meshpy.analysis.automaton import (
    DEAD,
    TOP,
    Alphabet,
    Automaton,
    Dfa,
    Moves,
    Part,
    Whole,
    Word,
    masks_of,
    run,
)
from meshpy.analysis.domains import Domain
from meshpy.analysis.language import MARK, Either, Language, Unsupported, language_of
from meshpy.analysis.seam import Rewritten, Seam
from meshpy.engine.match import StringTest, any_of, compile_string
from meshpy.model.match import Exact, Prefix, Regex, StringMatch

__all__ = ["Atom", "Matcher", "Partition", "part_of", "partition"]

_MAX_JOINT_STATES = 60_000


@dataclass(frozen=True, slots=True)
class Matcher:
    """One test of a text: any of `matches`.

    Args:
        label: as a policy would write it.
        part: which part of a structured text it reads; None is the whole text.
        fold: without regard to case.
        seam: the prefix rewrite after which the path is judged.
    """

    label: str
    matches: tuple[StringMatch, ...]
    part: int | None = None
    fold: bool = False
    seam: Seam | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # matchers are looked up far more often than they are made
        own = hash((self.label, self.matches, self.part, self.fold, self.seam))
        object.__setattr__(self, "_hash", own)

    def __hash__(self) -> int:
        return self._hash

    def test(self) -> StringTest:
        """The engine's own test of the text, or of the part that it reads."""
        return _test_of(self)

    def language(self) -> Language:
        return Either(tuple(language_of(match, fold=self.fold) for match in self.matches))


@functools.lru_cache(maxsize=4096)
def _test_of(matcher: Matcher) -> StringTest:
    return any_of([compile_string(match, ignore_case=matcher.fold) for match in matcher.matches])


@dataclass(frozen=True, slots=True)
class Atom:
    """A cell: which matchers hold (bit n is matcher n), and a text for which exactly they do."""

    bits: int
    witness: str


@dataclass(frozen=True)
class Partition:
    """Invariant: every text of the domain is in exactly one atom.

    Args:
        opaque: matchers that have no automaton, and why; no atom says whether they hold.
    """

    domain: Domain
    matchers: tuple[Matcher, ...]
    atoms: tuple[Atom, ...]
    opaque: tuple[tuple[Matcher, str], ...] = ()
    _alphabet: Alphabet | None = None
    _automata: tuple[Automaton, ...] = ()
    _by_bits: dict[int, int] = field(default_factory=dict)

    def find(self, text: str) -> int | None:
        """The number of the atom that holds the text; None when it is outside of the domain."""
        assert self._alphabet is not None  # noqa: S101 - `partition` gives it
        letters = self._alphabet.letters(self.domain.encode(text))
        if letters is None:
            return None
        bits = sum(1 << i for i, automaton in enumerate(self._automata) if run(automaton, letters))
        return self._by_bits.get(bits)

    def onto(self, matchers: tuple[Matcher, ...]) -> Partition:
        """The partition by some of the matchers: cells that only others tell apart are one."""
        if matchers == self.matchers:
            return self
        position = {matcher: index for index, matcher in enumerate(self.matchers)}
        kept = [position[matcher] for matcher in matchers]
        atoms: dict[int, str] = {}
        for atom in self.atoms:
            atoms.setdefault(sum((atom.bits >> old & 1) << new for new, old in enumerate(kept)), atom.witness)
        return _made(self.domain, matchers, (), atoms, self._alphabet, [self._automata[i] for i in kept])

    def mask(self, matcher: int) -> frozenset[int]:
        """The atoms in which a matcher holds."""
        return frozenset(i for i, atom in enumerate(self.atoms) if atom.bits >> matcher & 1)


@functools.lru_cache(maxsize=4096)
def partition(domain: Domain, matchers: tuple[Matcher, ...]) -> Partition:
    """Cut the domain by the matchers; those without an automaton, or too large together, become opaque."""
    usable = list(matchers)
    opaque: list[tuple[Matcher, str]] = []
    while True:
        try:
            return _built(domain, usable, opaque)
        except _TooLarge as error:
            # what makes automata large are expressions; the longest goes first
            worst = error.matcher or max(usable, key=_weight)
            usable.remove(worst)
            opaque.append((worst, str(error)))


@functools.lru_cache(maxsize=4096)
def part_of(domain: Domain, matchers: tuple[Matcher, ...], whole: tuple[Matcher, ...]) -> Partition:
    """The partition by `matchers`, taken from one by `whole`, which many ask for parts of."""
    found = partition(domain, whole)
    if found.opaque or not set(matchers) <= set(whole):
        return partition(domain, matchers)
    return found.onto(matchers)


class _TooLarge(Exception):  # noqa: N818 - it never leaves this module
    def __init__(self, matcher: Matcher | None, error: Unsupported) -> None:
        self.matcher = matcher
        super().__init__(str(error))


def _weight(matcher: Matcher) -> tuple[int, int]:
    lengths = [len(match.value) for match in matcher.matches if isinstance(match, Regex)]
    return (sum(lengths), len(matcher.matches))


def _built(domain: Domain, usable: Sequence[Matcher], opaque: Sequence[tuple[Matcher, str]]) -> Partition:
    languages = [_language(matcher) for matcher in usable]
    masks = [mask for language in (domain.language, *domain.parts, *languages) for mask in masks_of(language)]
    masks += [1 << ord(char) for matcher in usable if matcher.seam for char in "/." + matcher.seam.text]
    alphabet = Alphabet(masks, domain.characters, domain.liked)
    automata = tuple(
        _automaton(matcher, language, alphabet) for matcher, language in zip(usable, languages, strict=True)
    )
    frame: Automaton = _Marked(domain, alphabet) if domain.marks else Dfa(domain.language, alphabet)
    atoms: dict[int, str] = {}
    try:
        for text in domain.samples:
            letters = alphabet.letters(domain.encode(text))
            if letters is not None and run(frame, letters):
                bits = sum(1 << i for i, automaton in enumerate(automata) if run(automaton, letters))
                atoms.setdefault(bits, text)
        _explore(frame, automata, alphabet, atoms, shows_marks=domain.shows_marks)
    except Unsupported as error:
        raise _TooLarge(None, error) from None
    return _made(domain, usable, opaque, atoms, alphabet, automata)


def _made(
    domain: Domain,
    matchers: Sequence[Matcher],
    opaque: Sequence[tuple[Matcher, str]],
    atoms: Mapping[int, str],
    alphabet: Alphabet | None,
    automata: Sequence[Automaton],
) -> Partition:
    found = tuple(Atom(bits, text) for bits, text in atoms.items())
    by_bits = {atom.bits: number for number, atom in enumerate(found)}
    return Partition(domain, tuple(matchers), found, tuple(opaque), alphabet, tuple(automata), by_bits)


def _language(matcher: Matcher) -> Language:
    try:
        return matcher.language()
    except Unsupported as error:
        raise _TooLarge(matcher, error) from None


def _automaton(matcher: Matcher, language: Language, alphabet: Alphabet) -> Automaton:
    try:
        dfa = _word(matcher, alphabet) or Dfa(language, alphabet)
        if matcher.seam is not None:
            return Rewritten(dfa, alphabet, matcher.seam)
    except Unsupported as error:
        raise _TooLarge(matcher, error) from None
    return Whole(dfa, alphabet) if matcher.part is None else Part(dfa, alphabet, matcher.part)


def _word(matcher: Matcher, alphabet: Alphabet) -> Word | None:
    """The automaton of one plain text; None where it takes more than that."""
    if len(matcher.matches) != 1 or matcher.fold:
        return None
    match = matcher.matches[0]
    if not isinstance(match, Exact | Prefix) or chr(MARK) in match.value:
        return None
    letters = alphabet.letters(match.value)
    return None if letters is None else Word(letters, is_prefix=isinstance(match, Prefix))


class _Marked:
    """The domain of structured texts: each part in its own language, marks between them."""

    __slots__ = ("_dfas", "_mark", "_offsets", "start")

    def __init__(self, domain: Domain, alphabet: Alphabet) -> None:
        self._dfas = tuple(Dfa(part, alphabet) for part in domain.parts)
        self._mark = alphabet.mark
        self.start = self._pack(0, self._dfas[0].start)

    def _pack(self, part: int, state: int) -> int:
        return DEAD if state == DEAD else (state + 3) * len(self._dfas) + part

    def accepts(self, state: int) -> bool:
        if state == DEAD:
            return False
        inner, part = divmod(state, len(self._dfas))
        return part == len(self._dfas) - 1 and self._dfas[part].accepts(inner - 3)

    def moves(self, state: int) -> Moves:
        if state == DEAD:
            return Moves({}, DEAD)
        inner, part = divmod(state, len(self._dfas))
        special, default = self._dfas[part].moves(inner - 3)
        moves = {letter: self._pack(part, target) for letter, target in special.items()}
        moves[self._mark] = DEAD
        if part + 1 < len(self._dfas) and self._dfas[part].accepts(inner - 3):
            moves[self._mark] = self._pack(part + 1, self._dfas[part + 1].start)
        return Moves(moves, self._pack(part, default))


_Joint = tuple[int, int, tuple[tuple[int, int], ...]]
"""State of the domain, bits that hold whatever follows, and the automata that are still undecided."""


def _explore(
    frame: Automaton,
    automata: Sequence[Automaton],
    alphabet: Alphabet,
    atoms: dict[int, str],
    *,
    shows_marks: bool,
) -> None:
    start = _settle(frame.start, 0, enumerate(a.start for a in automata))
    mark = chr(MARK) if shows_marks else ""
    seen: set[_Joint] = {start}
    queue: deque[tuple[_Joint, str]] = deque([(start, "")])
    while queue:
        joint, text = queue.popleft()
        state, sure, live = joint
        if frame.accepts(state):
            bits = sure
            for index, inner in live:
                if automata[index].accepts(inner):
                    bits |= 1 << index
            atoms.setdefault(bits, text)
        for letter, following in _successors(frame, automata, alphabet, joint):
            _, fixed, open_ = following
            if not open_ and fixed in atoms:
                continue  # whatever comes is of an atom that has its witness
            if following not in seen:
                if len(seen) >= _MAX_JOINT_STATES:
                    raise Unsupported("the matchers together have too many states")
                seen.add(following)
                shown = alphabet.shown[letter] if letter != alphabet.mark else mark
                queue.append((following, text + shown))


def _settle(state: int, sure: int, parts: Iterable[tuple[int, int]]) -> _Joint:
    live: list[tuple[int, int]] = []
    for index, inner in parts:
        if inner == TOP:
            sure |= 1 << index
        elif inner != DEAD:
            live.append((index, inner))
    return state, sure, tuple(live)


def _successors(
    frame: Automaton, automata: Sequence[Automaton], alphabet: Alphabet, joint: _Joint
) -> Iterable[tuple[int, _Joint]]:
    """Each letter that leads somewhere new, the nicest first; letters that nothing tells apart go as one."""
    state, sure, live = joint
    outer = frame.moves(state)
    moves = [(index, automata[index].moves(inner)) for index, inner in live]
    special = set(outer.special)
    changes: dict[int, list[tuple[int, int]]] = {}
    for position, (_, inner_moves) in enumerate(moves):
        for letter, target in inner_moves.special.items():
            changes.setdefault(letter, []).append((position, target))
            special.add(letter)
    defaults = [(index, inner_moves.default) for index, inner_moves in moves]
    common = outer.default != DEAD
    letters = alphabet.order if common else sorted(special - {alphabet.mark}, key=alphabet.rank.__getitem__)
    for letter in (*letters, alphabet.mark):
        if letter not in special:
            if common and letter != alphabet.mark:
                common = False
                yield letter, _settle(outer.default, sure, defaults)
            continue
        target = outer.special.get(letter, outer.default)
        if target == DEAD:
            continue
        parts = list(defaults)
        for position, inner_target in changes.get(letter, ()):
            parts[position] = (parts[position][0], inner_target)
        yield letter, _settle(target, sure, parts)
