"""Languages -> deterministic automata, made state by state as they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from meshpy.analysis.language import MARK, Anchor, Chars, Either, Language, Repeat, Then, Unsupported

__all__ = ["DEAD", "TOP", "Alphabet", "Automaton", "Dfa", "Moves", "Part", "Whole", "Word", "masks_of", "run"]

DEAD = -1
"""No continuation is accepted."""

TOP = -2
"""Every continuation is accepted."""

_MAX_STATES = 20_000


class Moves(NamedTuple):
    """From one state: by letter where it is special, else by default."""

    special: dict[int, int]
    default: int


class Automaton(Protocol):
    """A deterministic automaton over the letters of an alphabet; states are numbers."""

    @property
    def start(self) -> int: ...

    def moves(self, state: int) -> Moves: ...

    def accepts(self, state: int) -> bool: ...


class Alphabet:
    """Letters: sets of characters that no matcher of a dimension tells apart; the last is the mark.

    Args:
        masks: every set of characters that a matcher names.
        domain: the characters that texts have.
        liked: characters to show for a letter, the nicest first.
    """

    def __init__(self, masks: Iterable[int], domain: int, liked: str) -> None:
        parts = [domain]
        for mask in set(masks):
            parts = [half for part in parts for half in (part & mask, part & ~mask) if half]
        self.masks = tuple(parts)
        self.mark = len(parts)
        self.shown = tuple(_nicest(part, liked) for part in parts)
        self.order = tuple(sorted(range(len(parts)), key=lambda i: _rank(self.shown[i], liked)))
        self.rank = {letter: position for position, letter in enumerate(self.order)}
        self._letter: dict[int, int] = {}
        for index, part in enumerate(parts):
            rest = part
            while rest:
                self._letter[(rest & -rest).bit_length() - 1] = index
                rest &= rest - 1
        self._in_mask: dict[int, frozenset[int]] = {}

    def letters(self, text: str) -> list[int] | None:
        """The text as letters; None when it has a character outside of the domain."""
        found = [self.mark if ord(c) == MARK else self._letter.get(ord(c), -1) for c in text]
        return None if -1 in found else found

    def in_mask(self, mask: int) -> frozenset[int]:
        found = self._in_mask.get(mask)
        if found is None:
            found = frozenset(index for index, part in enumerate(self.masks) if part & mask)
            self._in_mask[mask] = found
        return found


def _nicest(mask: int, liked: str) -> str:
    for char in liked:
        if mask >> ord(char) & 1:
            return char
    return chr((mask & -mask).bit_length() - 1)


def _rank(char: str, liked: str) -> tuple[int, int]:
    position = liked.find(char)
    return (position if position >= 0 else len(liked), ord(char))


def masks_of(language: Language) -> Iterator[int]:
    """Every set of characters in it."""
    stack = [language]
    while stack:
        match stack.pop():
            case Chars(mask=mask):
                yield mask
            case Then(parts=parts) | Either(parts=parts):
                stack.extend(parts)
            case Repeat(inner=inner):
                stack.append(inner)
            case Anchor():
                pass


class _Nfa:
    """Thompson's construction; an epsilon may ask for the begin or the end of the text."""

    def __init__(self, language: Language, alphabet: Alphabet) -> None:
        self._alphabet = alphabet
        self.steps: list[list[tuple[frozenset[int], int]]] = []
        self.skips: list[list[tuple[int, bool | None]]] = []
        self.accept = self._state()
        self.start = self._build(language, self.accept)
        everything = frozenset(range(alphabet.mark))
        self.tops = frozenset(
            state
            for state in range(len(self.steps))
            if (everything, state) in self.steps[state] and self.accept in self._plain(state)
        )

    def _plain(self, state: int) -> set[int]:
        seen, stack = {state}, [state]
        while stack:
            for target, when in self.skips[stack.pop()]:
                if when is None and target not in seen:
                    seen.add(target)
                    stack.append(target)
        return seen

    def _state(self) -> int:
        if len(self.steps) >= _MAX_STATES:
            raise Unsupported("its automaton is too large")
        self.steps.append([])
        self.skips.append([])
        return len(self.steps) - 1

    def _build(self, language: Language, after: int) -> int:
        """The state from which `language` leads to `after`."""
        match language:
            case Chars(mask=mask):
                state = self._state()
                self.steps[state].append((self._alphabet.in_mask(mask), after))
                return state
            case Then(parts=parts):
                for part in reversed(parts):
                    after = self._build(part, after)
                return after
            case Either(parts=parts):
                state = self._state()
                self.skips[state] += [(self._build(part, after), None) for part in parts]
                return state
            case Anchor(at_start=at_start):
                state = self._state()
                self.skips[state].append((after, at_start))
                return state
            case Repeat(inner=inner, low=low, high=high):
                return self._repeat(inner, low, high, after)

    def _repeat(self, inner: Language, low: int, high: int | None, after: int) -> int:
        if high is None:
            loop = self._state()
            if isinstance(inner, Chars):
                self.steps[loop].append((self._alphabet.in_mask(inner.mask), loop))
            else:
                self.skips[loop].append((self._build(inner, loop), None))
            self.skips[loop].append((after, None))
            after = loop
        else:
            end = after
            for _ in range(high - low):
                state = self._state()
                self.skips[state] += [(self._build(inner, after), None), (end, None)]
                after = state
        for _ in range(low):
            after = self._build(inner, after)
        return after

    def closure(
        self, states: Iterable[int], *, at_start: bool = False, at_end: bool = False
    ) -> frozenset[int]:
        seen = set(states)
        stack = list(seen)
        while stack:
            for target, when in self.skips[stack.pop()]:
                holds = when is None or (at_start if when else at_end)
                if holds and target not in seen:
                    seen.add(target)
                    stack.append(target)
        return frozenset(seen)


class Dfa:
    """The subset construction, lazily; it never reads the mark.

    Raises:
        Unsupported: it would have too many states.
    """

    __slots__ = ("_accepts", "_alphabet", "_moves", "_nfa", "_number", "_sets", "start")

    def __init__(self, language: Language, alphabet: Alphabet) -> None:
        self._nfa = _Nfa(language, alphabet)
        self._alphabet = alphabet
        self._sets: list[frozenset[int]] = []
        self._accepts: list[bool] = []
        self._moves: dict[int, Moves] = {}
        self._number: dict[frozenset[int], int] = {}
        self.start = self._new(self._nfa.closure((self._nfa.start,), at_start=True), is_start=True)

    def _new(self, states: frozenset[int], *, is_start: bool = False) -> int:
        if not states:
            return DEAD
        if not self._nfa.tops.isdisjoint(states):
            return TOP
        number = None if is_start else self._number.get(states)
        if number is None:
            if len(self._sets) >= _MAX_STATES:
                raise Unsupported("its automaton has too many states")
            number = len(self._sets)
            self._sets.append(states)
            ended = self._nfa.closure(states, at_start=is_start, at_end=True)
            self._accepts.append(self._nfa.accept in ended)
            if not is_start:
                self._number[states] = number
        return number

    def accepts(self, state: int) -> bool:
        return state == TOP or (state != DEAD and self._accepts[state])

    def moves(self, state: int) -> Moves:
        found = self._moves.get(state)
        if found is None:
            found = self._moves[state] = self._compute(state)
        return found

    def _compute(self, state: int) -> Moves:
        if state < 0:
            return Moves({}, state)
        edges = [edge for member in self._sets[state] for edge in self._nfa.steps[member]]
        by_letter: dict[int, set[int]] = {}
        common: set[int] = set()
        count = self._alphabet.mark
        for letters, target in edges:
            if len(letters) == count:
                common.add(target)
            else:
                for letter in letters:
                    by_letter.setdefault(letter, set()).add(target)
        default = self._new(self._nfa.closure(common))
        after: dict[frozenset[int], int] = {}
        special: dict[int, int] = {}
        for letter, targets in by_letter.items():
            key = frozenset(targets)
            if key not in after:
                after[key] = self._new(self._nfa.closure(targets | common))
            special[letter] = after[key]
        return _fewest(special, default, count)


def _fewest(special: dict[int, int], default: int, count: int) -> Moves:
    """The same moves with the commonest target as default, so that few letters are special.

    Args:
        count: how many letters there are beside the mark, which is in none of the languages.
    """
    targets = list(special.values())
    others = count - len(targets)
    commonest = max(set(targets), key=targets.count, default=default)
    if commonest == default:
        return Moves({letter: target for letter, target in special.items() if target != default}, default)
    if targets.count(commonest) <= others:
        return Moves(special, default)
    moves = {letter: target for letter, target in special.items() if target != commonest}
    moves.update({letter: default for letter in range(count) if letter not in special})
    moves[count] = DEAD
    return Moves(moves, commonest)


class Word:
    """One text, or all that begin with it: states count the letters that were read. As Dfa, but at once."""

    __slots__ = ("_after", "_letters", "start")

    def __init__(self, letters: Sequence[int], *, is_prefix: bool) -> None:
        self._letters = letters
        self._after = TOP if is_prefix else len(letters)
        self.start = self._state(0)

    def _state(self, read: int) -> int:
        return self._after if read == len(self._letters) else read

    def accepts(self, state: int) -> bool:
        return state == self._after

    def moves(self, state: int) -> Moves:
        if 0 <= state < len(self._letters):
            return Moves({self._letters[state]: self._state(state + 1)}, DEAD)
        return Moves({}, TOP if state == TOP else DEAD)


class Whole:
    """Reads a structured text as if its marks were not there."""

    __slots__ = ("_inner", "_mark", "accepts", "start")

    def __init__(self, inner: Automaton, alphabet: Alphabet) -> None:
        self._inner = inner
        self._mark = alphabet.mark
        self.start = inner.start
        self.accepts = inner.accepts

    def moves(self, state: int) -> Moves:
        special, default = self._inner.moves(state)
        return Moves({**special, self._mark: state}, default)


class Part:
    """Reads one part of a structured text, those between marks numbered from 0."""

    __slots__ = ("_inner", "_mark", "_number", "_states", "start")

    def __init__(self, inner: Automaton, alphabet: Alphabet, number: int) -> None:
        self._inner = inner
        self._mark = alphabet.mark
        self._number = number
        self._states: dict[int, int] = {}
        self.start = -10 - number if number else self._wrap(inner.start)

    def _wrap(self, state: int) -> int:
        """Inside the part TOP is not yet certain of the rest, so it keeps a number of its own."""
        return state + 2 if state == TOP else state + 3 if state >= 0 else DEAD

    def _unwrap(self, state: int) -> int:
        return TOP if state == 0 else state - 3

    def accepts(self, state: int) -> bool:
        return state == TOP or (state >= 0 and self._inner.accepts(self._unwrap(state)))

    def moves(self, state: int) -> Moves:
        if state in (TOP, DEAD):
            return Moves({}, state)
        if state < -10:
            after = state + 1
            return Moves({self._mark: self._wrap(self._inner.start) if after == -10 else after}, state)
        inner = self._unwrap(state)
        special, default = self._inner.moves(inner)
        moves = {letter: self._wrap(target) for letter, target in special.items()}
        moves[self._mark] = TOP if self._inner.accepts(inner) else DEAD
        return Moves(moves, self._wrap(default))


def run(automaton: Automaton, letters: Sequence[int]) -> bool:
    """True when it accepts the word."""
    state = automaton.start
    for letter in letters:
        if state in (TOP, DEAD):
            break
        moves = automaton.moves(state)
        state = moves.special.get(letter, moves.default)
    return automaton.accepts(state)
