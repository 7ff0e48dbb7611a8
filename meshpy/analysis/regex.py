"""RE2's syntax -> a language. What has no plain automaton is refused, so that nobody takes it for proved.

Source: github.com/google/re2/wiki/Syntax. Refused: `\\b`, `\\B` (they look around), `\\C`, and Unicode
classes of scripts. Matching is `fullmatch`, so greediness and captures have no bearing. The texts have no
newline; `(?m)` and `(?s)` therefore change nothing but what `.` and `$` mean for one, and are followed.
"""

from __future__ import annotations

import re
import unicodedata

from meshpy.analysis.language import ALL, Anchor, Chars, Either, Language, Repeat, Then, Unsupported

__all__ = ["parse"]

_NEWLINE = 1 << 10
_MAX_REPEAT = 1000
_MAX_NESTING = 100
_COUNT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_NAMED = re.compile(r"\(\?P?<[A-Za-z0-9_]+>")
_HEX = re.compile(r"x(?:\{([0-9A-Fa-f]+)\}|([0-9A-Fa-f]{2}))")
_POSIX = re.compile(r"\[:(\^?)([a-z]+):\]")
_CATEGORY = re.compile(r"([pP])(?:\{(\^?)([A-Za-z_]+)\}|([A-Z]))")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
_ESCAPES = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}


def _range(first: int, last: int) -> int:
    return sum(1 << code for code in range(first, min(last, 255) + 1))


def _of(text: str) -> int:
    return sum(1 << ord(char) for char in text)


_DIGIT = _range(48, 57)
_UPPER, _LOWER = _range(65, 90), _range(97, 122)
_WORD = _DIGIT | _UPPER | _LOWER | _of("_")
_PERL = {"d": _DIGIT, "w": _WORD, "s": _of("\t\n\f\r ")}
_NAMES = {
    "alnum": _DIGIT | _UPPER | _LOWER,
    "alpha": _UPPER | _LOWER,
    "ascii": _range(0, 127),
    "blank": _of("\t "),
    "cntrl": _range(0, 31) | 1 << 127,
    "digit": _DIGIT,
    "graph": _range(33, 126),
    "lower": _LOWER,
    "print": _range(32, 126),
    "punct": _range(33, 126) & ~(_DIGIT | _UPPER | _LOWER),
    "space": _of("\t\n\v\f\r "),
    "upper": _UPPER,
    "word": _WORD,
    "xdigit": _DIGIT | _of("abcdefABCDEF"),
}


def _folded(mask: int) -> int:
    """The set with the other case of its letters, as far as Latin-1 goes."""
    found = mask
    for code in range(256):
        if mask >> code & 1:
            for other in (chr(code).lower(), chr(code).upper()):
                if len(other) == 1 and ord(other) < 256:
                    found |= 1 << ord(other)
    return found


def parse(expression: str, *, ignore_case: bool = False) -> Language:
    """The texts that the whole expression matches.

    Raises:
        Unsupported: it uses what has no plain automaton here.
    """
    parser = _Parser(expression, ignore_case=ignore_case)
    found = parser.alternatives(0)
    if parser.at < len(expression):
        raise Unsupported(f"{expression[parser.at]!r} at {parser.at} is unbalanced")
    return found


class _Parser:
    """Recursive descent over RE2's grammar; `flags` is a set of i, m, s, U."""

    def __init__(self, text: str, *, ignore_case: bool) -> None:
        self.text = text
        self.at = 0
        self.flags = frozenset("i" if ignore_case else "")

    def alternatives(self, depth: int) -> Language:
        if depth > _MAX_NESTING:
            raise Unsupported("it is nested too deep")
        flags = self.flags
        found = [self._sequence(depth)]
        while self.text[self.at : self.at + 1] == "|":
            self.at += 1
            found.append(self._sequence(depth))
        self.flags = flags
        return found[0] if len(found) == 1 else Either(tuple(found))

    def _sequence(self, depth: int) -> Language:
        parts: list[Language] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            if self.text.startswith("\\Q", self.at):
                parts += self._quoted()
                continue
            part = self._atom(depth)
            if part is not None:
                parts.append(self._repeated(part))
        return Then(tuple(parts))

    def _quoted(self) -> list[Language]:
        end = self.text.find("\\E", self.at)
        body = self.text[self.at + 2 : end if end >= 0 else None]
        self.at = end + 2 if end >= 0 else len(self.text)
        return [self._chars(1 << ord(char) if ord(char) < 256 else 0) for char in body]

    def _chars(self, mask: int) -> Chars:
        return Chars(_folded(mask) if "i" in self.flags else mask)

    def _repeated(self, part: Language) -> Language:
        while self.at < len(self.text):
            sign = self.text[self.at]
            count = _COUNT.match(self.text, self.at)
            if sign in "*+?":
                low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
                self.at += 1
            elif count is not None:
                low = int(count[1])
                high = (int(count[3]) if count[3] else None) if count[2] else low
                if max(low, high or 0) > _MAX_REPEAT:
                    raise Unsupported(f"it repeats more than {_MAX_REPEAT} times")
                self.at = count.end()
            else:
                break
            if self.text[self.at : self.at + 1] == "?":
                self.at += 1
            part = Repeat(part, low, high)
        return part

    def _atom(self, depth: int) -> Language | None:
        char = self.text[self.at]
        if char == "(":
            return self._group(depth)
        self.at += 1
        match char:
            case "[":
                return self._class()
            case ".":
                return Chars(ALL if "s" in self.flags else ALL & ~_NEWLINE)
            case "^":
                return Anchor(at_start=True)
            case "$":
                return Anchor(at_start=False)
            case "\\":
                return self._escape()
            case _:
                return self._chars(1 << ord(char) if ord(char) < 256 else 0)

    def _group(self, depth: int) -> Language | None:
        flags = _FLAGS.match(self.text, self.at)
        before = self.flags
        if flags is not None:
            self.at = flags.end()
            self.flags = (before | set(flags[1])) - set(flags[2] or "")
            if flags[3] == ")":
                return None
        elif (named := _NAMED.match(self.text, self.at)) is not None:
            self.at = named.end()
        elif self.text.startswith("(?", self.at):
            raise Unsupported(f"the group {self.text[self.at : self.at + 4]!r} is not known")
        else:
            self.at += 1
        found = self.alternatives(depth + 1)
        if self.text[self.at : self.at + 1] != ")":
            raise Unsupported("a group is not closed")
        self.at += 1
        self.flags = before
        return found

    def _escape(self) -> Language:
        char = self.text[self.at : self.at + 1]
        if char in ("A", "z"):
            self.at += 1
            return Anchor(at_start=char == "A")
        mask = self._escaped_set()
        return self._chars(mask)

    def _escaped_set(self) -> int:
        """What follows a backslash, as a set of characters."""
        text, at = self.text, self.at
        char = text[at : at + 1]
        if char.lower() in _PERL and char:
            self.at += 1
            mask = _PERL[char.lower()]
            return mask if char.islower() else ALL & ~mask
        if (found := _CATEGORY.match(text, at)) is not None:
            self.at = found.end()
            return _category(found[3] or found[4], negated=(found[1] == "P") != (found[2] == "^"))
        if (found := _HEX.match(text, at)) is not None:
            self.at = found.end()
            code = int(found[1] or found[2], 16)
            return 1 << code if code < 256 else 0
        if (found := re.compile(r"[0-7]{1,3}").match(text, at)) is not None and (
            char == "0" or found.end() > at + 1
        ):
            self.at = found.end()
            return 1 << int(found[0], 8) if int(found[0], 8) < 256 else 0
        self.at += 1
        if char in _ESCAPES:
            return 1 << _ESCAPES[char]
        if char and not char.isalnum():
            return 1 << ord(char) if ord(char) < 256 else 0
        raise Unsupported(f"the escape \\{char} has no automaton here")

    def _class(self) -> Language:
        negated = self.text[self.at : self.at + 1] == "^"
        self.at += negated
        mask, first = 0, True
        while first or self.text[self.at : self.at + 1] != "]":
            if self.at >= len(self.text):
                raise Unsupported("a class is not closed")
            first = False
            mask |= self._class_item()
        self.at += 1
        if "i" in self.flags:
            mask = _folded(mask)
        return Chars(ALL & ~mask if negated else mask)

    def _class_item(self) -> int:
        if (posix := _POSIX.match(self.text, self.at)) is not None and posix[2] in _NAMES:
            self.at = posix.end()
            return ALL & ~_NAMES[posix[2]] if posix[1] else _NAMES[posix[2]]
        low = self._class_char()
        rest = self.text[self.at : self.at + 2]
        if len(rest) == 2 and rest[0] == "-" and rest[1] != "]" and low.bit_count() == 1:
            self.at += 1
            high = self._class_char()
            if high.bit_count() != 1:
                return _range(low.bit_length() - 1, 255)
            return _range(low.bit_length() - 1, high.bit_length() - 1)
        return low

    def _class_char(self) -> int:
        char = self.text[self.at]
        self.at += 1
        if char == "\\":
            return self._escaped_set()
        return 1 << ord(char) if ord(char) < 256 else 0


def _category(name: str, *, negated: bool) -> int:
    """A general category such as L or Lu; scripts are not known here."""
    if len(name) > 2 or name[0] not in "CLMNPSZ":
        raise Unsupported(f"the class \\p{{{name}}} has no automaton here")
    mask = sum(1 << code for code in range(256) if unicodedata.category(chr(code)).startswith(name))
    return ALL & ~mask if negated else mask
