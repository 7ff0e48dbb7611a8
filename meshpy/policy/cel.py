"""The part of CEL that a filter of the access log may be written in.

`response.code >= 400 && !request.url_path.startsWith("/healthz")`: six of Envoy's attributes compared with a
number, a text or a boolean, `startsWith`, `endsWith`, `contains`, `has`, and `&&`, `||`, `!`, parentheses by
CEL's precedence.
"""

from __future__ import annotations

import re

from meshpy.model.telemetry import LogAll, LogAny, LogField, LogFilter, LogNot, LogTerm

__all__ = ["MAX_CHARACTERS", "CelError", "parse_filter"]

MAX_CHARACTERS = 1024
MAX_NESTING = 30
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"\\]*"|'[^'\\]*')|(?P<number>[0-9]{1,6})|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<sign>&&|\|\||==|!=|<=|>=|<|>|!|\(|\)))""",
    re.VERBOSE,
)
_COMPARE = ("==", "!=", "<", "<=", ">", ">=")
_CALLS = ("startsWith", "endsWith", "contains")
_KNOWN = tuple(field.value for field in LogField)


class CelError(ValueError):
    """A filter cannot be read; `column` is 1-based, inside its text."""

    def __init__(self, column: int, what: str, instead: str) -> None:
        super().__init__(what)
        self.column, self.what, self.instead = column, what, instead


def parse_filter(text: str) -> LogFilter:
    """Read a filter.

    Raises:
        CelError: it is too long, or not of this part of CEL.
    """
    if len(text) > MAX_CHARACTERS:
        raise CelError(MAX_CHARACTERS, "is too long", f"write at most {MAX_CHARACTERS} characters")
    parser = _Parser(text)
    found = parser.either(0)
    if parser.kind:
        raise parser.error("is left over", "join parts by && or ||")
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        self.kind = self.word = ""
        self._next()

    def error(self, what: str, instead: str) -> CelError:
        column = self._end - len(self.word) + 1
        return CelError(column, f"{self.word!r} {what}" if self.kind else f"the end {what}", instead)

    def _next(self) -> None:
        rest = self._text[self._end :]
        if not rest.strip():
            self._end, self.kind, self.word = len(self._text), "", ""
            return
        found = _TOKEN.match(self._text, self._end)
        if found is None:
            at = self._end + len(rest) - len(rest.lstrip())
            raise CelError(at + 1, f"{self._text[at : at + 10]!r} cannot be read", f"write {_example()}")
        self._end = found.end()
        self.kind = found.lastgroup or ""
        self.word = found[self.kind]

    def _take(self, sign: str) -> bool:
        if self.word != sign or self.kind != "sign":
            return False
        self._next()
        return True

    def either(self, depth: int) -> LogFilter:
        operands = [self._both(depth)]
        while self._take("||"):
            operands.append(self._both(depth))
        return operands[0] if len(operands) == 1 else LogAny(tuple(operands))

    def _both(self, depth: int) -> LogFilter:
        operands = [self._single(depth)]
        while self._take("&&"):
            operands.append(self._single(depth))
        return operands[0] if len(operands) == 1 else LogAll(tuple(operands))

    def _single(self, depth: int) -> LogFilter:
        if depth > MAX_NESTING:
            raise self.error("is nested too deep", "write it flatter")
        if self._take("!"):
            return LogNot(self._single(depth + 1))
        if self._take("("):
            inner = self.either(depth + 1)
            if not self._take(")"):
                raise self.error("stands where a ) is needed", "close the parenthesis")
            return inner
        return self._term()

    def _term(self) -> LogFilter:
        if self.kind != "name":
            raise self.error("is no attribute", f"write {_example()}")
        if self.word == "has":
            return self._has()
        name, _, call = self.word.rpartition(".")
        if call in _CALLS and name in _KNOWN:
            return self._call(LogField(name), call)
        if self.word not in _KNOWN:
            raise self.error("is no attribute that is known", f"write one of {', '.join(_KNOWN)}")
        field = LogField(self.word)
        self._next()
        operator = self.word
        if field is LogField.MTLS and operator not in ("==", "!="):
            return LogTerm(field, "==", "true")
        if operator not in _COMPARE:
            raise self.error("is no comparison", f"write one of {', '.join(_COMPARE)}")
        self._next()
        if field is not LogField.CODE and operator not in ("==", "!="):
            raise self.error("is compared in an order that texts have not", "write == or !=")
        return LogTerm(field, operator, self._value(field))

    def _has(self) -> LogFilter:
        self._next()
        opened = self._take("(")
        if not opened or self.word not in _KNOWN or self.word == LogField.MTLS:
            raise self.error("is nothing that may be absent", "write has(request.useragent)")
        field = LogField(self.word)
        self._next()
        if not self._take(")"):
            raise self.error("stands where a ) is needed", f"write has({field.value})")
        return LogTerm(field, "has", "")

    def _call(self, field: LogField, call: str) -> LogFilter:
        if field is LogField.CODE:
            raise self.error("is of texts, a code is a number", "write response.code >= 400")
        if field is LogField.MTLS:
            raise self.error("is of texts, this is true or false", "write connection.mtls")
        self._next()
        if not self._take("("):
            raise self.error("stands where a ( is needed", f'write {field.value}.{call}("/x")')
        value = self._value(field)
        if not self._take(")"):
            raise self.error("stands where a ) is needed", f'write {field.value}.{call}("/x")')
        return LogTerm(field, call, value)

    def _value(self, field: LogField) -> str:
        if field is LogField.MTLS:
            if self.word not in ("true", "false"):
                raise self.error("is no boolean", "write true or false")
            value = self.word
            self._next()
            return value
        wanted = "number" if field is LogField.CODE else "text"
        if self.kind != wanted:
            raise self.error(f"is no {wanted}", "write 400" if wanted == "number" else 'write a text in "…"')
        value = self.word if wanted == "number" else self.word[1:-1]
        self._next()
        return value


def _example() -> str:
    return 'response.code >= 400, or request.url_path.startsWith("/x")'
