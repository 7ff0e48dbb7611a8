"""Invariants: one line each, what must hold of every request whatever the policies say.

    never: web -> db                      no request of web's reaches db
    never: * -> api DELETE /v1/*          nobody deletes below /v1/
    only: api, worker -> db:5432          nobody else reaches that port
    always: web -> api GET /healthz       this is never refused
    always: mtls                          no call between services goes without identities
    always: mtls -> db                    nor any to db

Sources and destinations are `service`, `stack/service`, `stack/*`, `*`; a source may be `outside`, a caller
without identity. The path is what the destination receives: exact, `prefix*`, `*suffix`, `*`, or a template.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from meshpy.errors import DocumentError, Place, Problem
from meshpy.model.match import StringMatch
from meshpy.policy.documents import Scalar
from meshpy.policy.reader import Cursor, Report
from meshpy.policy.strings import path_match

__all__ = ["Invariant", "Party", "Word", "read_invariants"]

_LINE = re.compile(r"(?P<word>\w+)\s*:\s*(?P<rest>.*)")
_ARROW = re.compile(r"\s*(?:->|→)\s*")
_PARTY = re.compile(r"(?:(?P<namespace>[\w.-]+|\*)/)?(?P<name>[\w.-]+|\*)(?::(?P<port>\d{1,5}))?")
_METHOD = re.compile(r"[A-Z][A-Z_-]*|\*")


class Word(StrEnum):
    NEVER = "never"
    ONLY = "only"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Party:
    """A source or destination; `*` in both parts is anybody, outsiders among them."""

    namespace: str
    name: str
    port: int | None = None

    @property
    def is_anybody(self) -> bool:
        return self.namespace == "*" and self.name == "*"

    def is_service(self, namespace: str, name: str) -> bool:
        return self.namespace in ("*", namespace) and self.name in ("*", name)


@dataclass(frozen=True, slots=True)
class Invariant:
    """One line.

    Args:
        is_mtls: `always: mtls`; sources are anybody then.
        method: empty is any.
    """

    word: Word
    text: str
    place: Place
    sources: tuple[Party, ...]
    destination: Party
    method: str = ""
    path: StringMatch | None = None
    is_mtls: bool = False


ANYBODY = Party("*", "*")


def read_invariants(texts: Sequence[tuple[str, str]], namespace: str) -> list[Invariant]:
    """Read files, given as (name, text); `#` begins a comment.

    Raises:
        DocumentError: every line that cannot be read.
    """
    found: list[Invariant] = []
    problems: list[Problem] = []
    for file, text in texts:
        report = Report(file)
        for number, line in enumerate(text.splitlines(), 1):
            bare = re.sub(r"(^|\s)#.*", "", line).strip()
            if bare:
                invariant = _Reader(file, number, line, bare, namespace, report).invariant()
                found += [invariant] if invariant is not None else []
        problems += report.problems
        if not found and not report.problems:
            problems.append(Problem(Place(file), "has no invariant", "write a line such as never: web -> db"))
    if problems:
        raise DocumentError(problems)
    return found


class _Reader:
    """One line; `None` answers are noted as problems."""

    def __init__(self, file: str, number: int, line: str, text: str, namespace: str, report: Report) -> None:
        self._place = Place(file, number, len(line) - len(line.lstrip()) + 1)
        self._text = text
        self._namespace = namespace
        self._report = report

    def _problem(self, what: str, instead: str) -> None:
        self._report.problems.append(Problem(self._place, what, instead))

    def invariant(self) -> Invariant | None:
        line = _LINE.fullmatch(self._text)
        words = {word.value: word for word in Word}
        if line is None or line["word"] not in words:
            self._problem(f"{self._text!r} is no invariant", "begin with never:, only: or always:")
            return None
        word, rest = words[line["word"]], line["rest"]
        if word is Word.ALWAYS and re.match(r"mtls\b", rest):
            return self._mtls(rest.removeprefix("mtls").strip())
        sides = _ARROW.split(rest)
        if len(sides) != 2 or not all(sides):
            self._problem(f"{rest!r} names no two ends", "write SOURCE -> DESTINATION")
            return None
        sources = tuple(self._party(part.strip(), is_source=True) for part in sides[0].split(","))
        target, *more = sides[1].split()
        destination = self._party(target, is_source=False)
        method, path = self._request(more)
        if destination is None or any(source is None for source in sources):
            return None
        known = tuple(source for source in sources if source is not None)
        return Invariant(word, self._text, self._place, known, destination, method, path)

    def _mtls(self, rest: str) -> Invariant | None:
        destination: Party | None = ANYBODY
        if rest:
            sides = _ARROW.split(rest)
            if len(sides) != 2 or sides[0] or not sides[1]:
                self._problem(f"{rest!r} cannot follow mtls", "write always: mtls, or always: mtls -> db")
                return None
            destination = self._party(sides[1], is_source=False)
        if destination is None:
            return None
        return Invariant(Word.ALWAYS, self._text, self._place, (ANYBODY,), destination, is_mtls=True)

    def _party(self, text: str, *, is_source: bool) -> Party | None:
        found = _PARTY.fullmatch(text)
        if found is None:
            self._problem(f"{text!r} is no service", "write api, shop/api, shop/*, * or api:8080")
            return None
        port = int(found["port"]) if found["port"] else None
        if port is not None and (is_source or not 0 < port < 65536):
            instead = "write ports at the destination only" if is_source else "write 1 to 65535"
            self._problem(f"{text!r} has a port that cannot be", instead)
            return None
        if text.partition(":")[0] == "*":
            return Party("*", "*", port)
        return Party(found["namespace"] or self._namespace, found["name"], port)

    def _request(self, words: list[str]) -> tuple[str, StringMatch | None]:
        if not words:
            return "", None
        if len(words) > 2 or (len(words) == 2 and not _METHOD.fullmatch(words[0])):
            self._problem(f"{' '.join(words)!r} is no request", "write METHOD /path, or /path alone")
            return "", None
        *first, last = words
        if _METHOD.fullmatch(last) and last != "*" and not first:
            return last, None
        scalar = Scalar(last, False, self._place.line, self._place.column)
        path = path_match(Cursor(scalar, "", self._report))
        return ("" if not first or first[0] == "*" else first[0]), path
