"""Filters of the access log, compiled to one test per request."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TypeAlias

from meshpy.model.telemetry import LogAll, LogAny, LogField, LogFilter, LogNot, LogTerm

__all__ = ["LogTest", "compile_filter"]

LogTest: TypeAlias = Callable[[int, str, str, str, str, bool], bool]
"""Status (0 when none was sent), method, path, host, user agent, whether over mTLS."""

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
_PLACE = {
    LogField.CODE: 0,
    LogField.METHOD: 1,
    LogField.PATH: 2,
    LogField.HOST: 3,
    LogField.AGENT: 4,
    LogField.MTLS: 5,
}


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
    place = _PLACE[term.field]
    if term.operator == "has":
        return lambda *seen: bool(seen[place])
    if term.field is LogField.CODE:
        compare, code = _NUMBERS[term.operator], int(term.value)
        return lambda status, *_: compare(status, code)
    if term.field is LogField.MTLS:
        is_wanted = (term.value == "true") is (term.operator == "==")
        return lambda *seen: seen[place] is is_wanted
    holds, value = _TEXTS[term.operator], term.value
    return lambda *seen: holds(str(seen[place]), value)
