"""Suppressions: what a person has looked at and lets stand, with a reason.

`# meshpy: ignore MP104 MP106 because …` on the line of a finding, or on a line of its own above it; above the
first line of a document it holds for the document, as the annotation `meshpy.io/ignore: "MP104: because …"`
does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshpy.analysis.remarks import CODES, Remark
from meshpy.errors import Place
from meshpy.policy import Document

__all__ = ["ANNOTATION", "suppressed"]

ANNOTATION = "meshpy.io/ignore"
_COMMENT = re.compile(r"#\s*meshpy:\s*ignore\b[\s:]*(.*)")
_CODES = re.compile(r"((?:MP\d+[\s,]*)+)[:\s]*(.*)")


@dataclass(frozen=True, slots=True)
class _Suppression:
    """Codes that are let stand from line to line of a file."""

    place: Place
    first: int
    last: int
    codes: frozenset[str]
    reason: str

    def takes(self, remark: Remark) -> bool:
        place = remark.place
        is_there = place.file == self.place.file and self.first <= place.line <= self.last
        return is_there and remark.code in self.codes


def suppressed(
    remarks: Sequence[Remark],
    texts: Mapping[str, str],
    documents: Iterable[Document],
    annotations: Mapping[Place, str],
) -> list[Remark]:
    """The remarks that stand, and those on the suppressions themselves.

    Args:
        texts: of the files, by name.
        annotations: place of a document → its annotation.
    """
    spans = _spans(documents, texts)
    found = [item for file, text in texts.items() for item in _comments(file, text, spans)]
    for place, text in annotations.items():
        span = next((s for s in spans if s[0] == place.file and s[1] <= place.line <= s[2]), None)
        if span is not None:
            found.append(_read(place, text, span[1], span[2]))
    kept = [remark for remark in remarks if not any(item.takes(remark) for item in found)]
    for item in found:
        unknown = sorted(item.codes - set(CODES))
        if unknown or not item.codes:
            what = f"{', '.join(unknown) or 'the suppression'} names no code of lint"
            kept.append(Remark(item.place, "MP119", what, "write a code such as MP104"))
        elif not item.reason:
            what = f"{', '.join(sorted(item.codes))} is suppressed without a reason"
            kept.append(Remark(item.place, "MP119", what, "write why after the code"))
        elif not any(item.takes(remark) for remark in remarks):
            what = f"there is no {' or '.join(sorted(item.codes))} to suppress here"
            kept.append(Remark(item.place, "MP119", what, "remove the comment"))
    return sorted(kept)


_Span = tuple[str, int, int]


def _spans(documents: Iterable[Document], texts: Mapping[str, str]) -> list[_Span]:
    """File, first and last line of each document."""
    starts = sorted((document.file, document.place.line) for document in documents)
    found: list[_Span] = []
    for position, (file, line) in enumerate(starts):
        following = starts[position + 1] if position + 1 < len(starts) else ("", 0)
        end = following[1] - 1 if following[0] == file else len(texts.get(file, "").splitlines()) + 1
        found.append((file, line, end))
    return found


def _comments(file: str, text: str, spans: Sequence[_Span]) -> Iterable[_Suppression]:
    for number, line in enumerate(text.splitlines(), 1):
        comment = _COMMENT.search(line)
        if comment is None:
            continue
        place = Place(file, number, comment.start() + 1)
        is_alone = line.lstrip().startswith("#")
        target = _next_line(text, number) if is_alone else number
        document = next((span for span in spans if span[0] == file and span[1] == target), None)
        last = document[2] if document is not None and is_alone else target
        yield _read(place, comment[1], target, last)


def _next_line(text: str, number: int) -> int:
    """The next line that is neither empty nor a comment nor a separator."""
    lines = text.splitlines()
    for index in range(number, len(lines)):
        bare = lines[index].strip()
        if bare and not bare.startswith("#") and bare != "---":
            return index + 1
    return number


def _read(place: Place, text: str, first: int, last: int) -> _Suppression:
    found = _CODES.match(text.strip())
    if found is None:
        return _Suppression(place, first, last, frozenset(), text.strip())
    codes = frozenset(re.findall(r"MP\d+", found[1]))
    return _Suppression(place, first, last, codes, found[2].strip())
