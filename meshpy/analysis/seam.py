"""Paths before a prefix rewrite, judged by what they are after it: exact over the seam of the two.

The first `skip` characters go and `text` comes in their place; then the path is normalised again. What
follows a whole path segment is normal already, so that only the segment at the seam can change: it may be
empty (two slashes meet), or become `.` or `..`.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshpy.analysis.automaton import DEAD, TOP, Alphabet, Automaton, Moves
from meshpy.analysis.language import Unsupported
from meshpy.engine.normalise import TargetRefusal, normalise_target

__all__ = ["Rewritten", "Seam"]


@dataclass(frozen=True, slots=True)
class Seam:
    """`rewrite.uri` of a route whose match takes `skip` characters of the path."""

    skip: int
    text: str


def _normal(path: str) -> str:
    found = normalise_target(path.encode("utf-8"))
    if isinstance(found, TargetRefusal):
        raise Unsupported(f"the rewritten path {path!r} is refused")
    return found.path


class Rewritten:
    """Runs `inner` on the rewritten path.

    States: 0 … skip-1 have read that many; then `dots` (no, one, two dots read since the seam); then inner
    states, moved up. TOP and DEAD are inner's.

    Raises:
        Unsupported: the text ends in a broken escape, or is refused as it stands.
    """

    __slots__ = (
        "_alphabet",
        "_base",
        "_constant",
        "_directory",
        "_dot",
        "_fragment",
        "_inner",
        "_parent",
        "_skip",
        "_slash",
    )

    def __init__(self, inner: Automaton, alphabet: Alphabet, seam: Seam) -> None:
        text = seam.text if seam.text.startswith("/") else f"/{seam.text}"
        self._inner = inner
        self._alphabet = alphabet
        self._skip = seam.skip
        self._base = seam.skip + 3
        self._constant: bool | None = None
        if "?" in text:
            self._constant = inner.accepts(self._after(_normal(text)))
            text = "/"
        if "%" in text[-2:]:
            raise Unsupported(f"the rewrite {seam.text!r} ends inside of an escape")
        directory, _, fragment = text.rpartition("/")
        self._directory = _normal(directory + "/")
        # `..` takes an empty segment for one, which is why it must see the slashes before they are merged
        self._parent = _normal(directory + "/..")
        self._fragment = fragment
        letters = alphabet.letters("/.")
        self._slash, self._dot = letters if letters is not None else (-1, -1)

    @property
    def start(self) -> int:
        return 0 if self._skip else self._seam()

    def _seam(self) -> int:
        if self._constant is not None:
            return TOP if self._constant else DEAD
        if self._fragment.strip("."):
            return self._up(self._after(_normal(self._directory + self._fragment)))
        return self._skip

    def _up(self, inner: int) -> int:
        return inner if inner in (TOP, DEAD) else inner + self._base

    def _after(self, text: str) -> int:
        letters = self._alphabet.letters(text)
        if letters is None:
            return DEAD
        return self._read(self._inner.start, letters)

    def _read(self, state: int, letters: list[int]) -> int:
        for letter in letters:
            if state in (TOP, DEAD):
                break
            moves = self._inner.moves(state)
            state = moves.special.get(letter, moves.default)
        return state

    def _ended(self, dots: int) -> int:
        """The inner state when the first segment after the seam is `fragment` and these dots."""
        segment = self._fragment + "." * dots
        if segment == "..":
            return self._after(self._parent)
        return self._after(self._directory if segment in ("", ".") else self._directory + segment)

    def accepts(self, state: int) -> bool:
        if state in (TOP, DEAD):
            return state == TOP
        if state < self._skip:
            return False
        if state < self._base:
            return self._inner.accepts(self._ended(state - self._skip))
        return self._inner.accepts(state - self._base)

    def moves(self, state: int) -> Moves:
        if state in (TOP, DEAD):
            return Moves({}, state)
        if state < self._skip:
            after = state + 1 if state + 1 < self._skip else self._seam()
            return Moves({}, after)
        if state < self._base:
            return self._seam_moves(state - self._skip)
        special, default = self._inner.moves(state - self._base)
        return Moves({letter: self._up(target) for letter, target in special.items()}, self._up(default))

    def _seam_moves(self, dots: int) -> Moves:
        """At the seam every letter is special: `/` ends the segment, a dot counts, others fix it."""
        segment = self._fragment + "." * dots
        fixed = self._after(self._directory + segment)
        special: dict[int, int] = {}
        for letter in range(self._alphabet.mark):
            special[letter] = self._up(self._read(fixed, [letter]))
        special[self._dot] = self._skip + dots + 1 if len(segment) < 2 else special[self._dot]
        if segment in ("", ".", ".."):
            special[self._slash] = self._up(self._ended(dots))
        return Moves(special, DEAD)
