"""Filters of the access log, compiled to one test per request."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TypeAlias

from meshpy.model.telemetry import LogAll, LogAny, LogField, LogFilter, LogNot, LogTerm

__all__ = ["LogTest", "compile_filter"]

LogTest: TypeAlias = Callable[[int, str, str, str], bool]
"""Status (0 when none was sent), method, path, host."""

_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": operator.contains,
}
_PLACE = {LogField.METHOD: 1, LogField.PATH: 2, LogField.HOST: 3}


def compile_filter(found: LogFilter) -> LogTest:
    """The test that a filter says."""
    match found:
        case LogTerm():
            return _term(found)
        case LogNot(operand):
            inner = compile_filter(operand)
            return lambda *seen: not inner(*seen)
        case LogAll(operands):
            tests = [compile_filter(each) for each in operands]
            return lambda *seen: all(test(*seen) for test in tests)
        case LogAny(operands):
            tests = [compile_filter(each) for each in operands]
            return lambda *seen: any(test(*seen) for test in tests)


def _term(term: LogTerm) -> LogTest:
    if term.field is LogField.CODE:
        compare, code = _NUMBERS[term.operator], int(term.value)
        return lambda status, _method, _path, _host: compare(status, code)
    holds, value, place = _TEXTS[term.operator], term.value, _PLACE[term.field]
    return lambda *seen: holds(str(seen[place]), value)
