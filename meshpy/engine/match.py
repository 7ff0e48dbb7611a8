"""Matches compiled to closures: built once per snapshot, called per request.

Header values are judged one by one and never joined (CVE-2026-26308). For authorization the reading that
grants less wins: in an ALLOW rule a condition holds when all values of the header hold, in a DENY rule when
any does; `compile_header_condition` has the table. Routes take any value, as nothing is granted by them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, assert_never

from meshpy.engine.normalise import canonical_path
from meshpy.engine.request import Request, host_of
from meshpy.errors import MeshpyError
from meshpy.model.match import (
    Exact,
    HeaderMatch,
    PathTemplate,
    Prefix,
    Present,
    Regex,
    RequestMatch,
    SegmentPrefix,
    StringMatch,
    Suffix,
)

if TYPE_CHECKING:
    import re2

__all__ = [
    "MAX_REGEX_CHARS",
    "MatchError",
    "RequestTest",
    "StringTest",
    "canonical_match",
    "compile_any",
    "compile_header_condition",
    "compile_hosts",
    "compile_path",
    "compile_regex",
    "compile_request",
    "compile_string",
    "host_matches",
    "is_connect",
    "query_values",
    "spelled_path",
]

StringTest: TypeAlias = Callable[[str], bool]
RequestTest: TypeAlias = Callable[[Request], bool]

MAX_REGEX_CHARS = 1024
"""Istio's and Envoy's bound on the length of an expression (ISTIO-2026-006)."""

_TEMPLATE_PART = re.compile(r"(\{\*\*\}|\{\*\})")
_NEVER_RAW_IN_A_PATH = re.compile(r'["<>^`{|}]')


class MatchError(MeshpyError):
    """A match of a snapshot cannot be compiled."""


@functools.lru_cache(maxsize=1024)
def compile_regex(expression: str, *, ignore_case: bool = False) -> re2._Regexp:
    """Compile an RE2 expression.

    Raises:
        MatchError: it is no RE2, too long, or its program would be too large.
    """
    if len(expression) > MAX_REGEX_CHARS:
        length = len(expression)
        raise MatchError(f"the expression has {length} characters; at most {MAX_REGEX_CHARS} are allowed")
    import re2  # noqa: PLC0415 - 2.5 MiB of a sidecar, and few of them meet an expression

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        detail = error.args[0] if error.args else ""
        text = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        raise MatchError(f"{expression!r} is no RE2 expression: {text}") from None


def compile_string(match: StringMatch, *, ignore_case: bool = False) -> StringTest:
    """One match as a test of a string.

    Raises:
        MatchError: see `compile_regex`.
    """
    if isinstance(match, Regex | PathTemplate):
        pattern = match.value if isinstance(match, Regex) else _template_expression(match.value)
        fullmatch = compile_regex(pattern, ignore_case=ignore_case).fullmatch
        return lambda text: fullmatch(text) is not None
    if isinstance(match, Present):
        return bool
    if not ignore_case:
        return _compile_literal(match)
    test = _compile_literal(type(match)(match.value.lower()))
    return lambda text: test(text.lower())


def _compile_literal(match: Exact | Prefix | SegmentPrefix | Suffix) -> StringTest:
    value = match.value
    match match:
        case Exact():
            return value.__eq__
        case Prefix():
            return lambda text: text.startswith(value)
        case Suffix():
            return lambda text: text.endswith(value)
        case SegmentPrefix():
            segments = value if value.endswith("/") else value + "/"
            whole = segments[:-1]
            return lambda text: text == whole or text.startswith(segments)
        case _:  # pragma: no cover
            assert_never(match)


def _template_expression(template: str) -> str:
    """`{*}` is one segment that is not empty, `{**}` any text (Envoy's uri_template)."""
    words = {"{*}": "[^/]+", "{**}": ".*"}
    return "".join(words.get(part) or re.escape(part) for part in _TEMPLATE_PART.split(template))


def spelled_path(text: str) -> str:
    """A literal path of a policy, spelled as normalised paths are."""
    return _NEVER_RAW_IN_A_PATH.sub(lambda char: f"%{ord(char[0]):02X}", canonical_path(text))


def canonical_match(match: StringMatch) -> StringMatch:
    """The match with its path spelled as normalised paths are; expressions and templates keep their signs."""
    match match:
        case Regex() | Present():
            return match
        case PathTemplate(value=value):
            return PathTemplate(canonical_path(value))
        case Exact(value=value) | Prefix(value=value) | Suffix(value=value) | SegmentPrefix(value=value):
            return type(match)(spelled_path(value))
        case _:  # pragma: no cover
            assert_never(match)


def compile_path(match: StringMatch, *, ignore_case: bool = False) -> StringTest:
    """As `compile_string`, for normalised paths."""
    return compile_string(canonical_match(match), ignore_case=ignore_case)


def compile_any(matches: Sequence[StringMatch], *, path: bool = False) -> StringTest:
    """A test that holds when any of the matches does; literals of one sort are one look-up."""
    spelled = [canonical_match(match) for match in matches] if path else list(matches)
    exact = frozenset(match.value for match in spelled if isinstance(match, Exact))
    prefixes = tuple(match.value for match in spelled if isinstance(match, Prefix))
    suffixes = tuple(match.value for match in spelled if isinstance(match, Suffix))
    tests: list[StringTest] = []
    if exact:
        tests.append(exact.__contains__)
    if prefixes:
        tests.append(lambda text: text.startswith(prefixes))
    if suffixes:
        tests.append(lambda text: text.endswith(suffixes))
    tests += [compile_string(match) for match in spelled if not isinstance(match, Exact | Prefix | Suffix)]
    return any_of(tests)


def any_of(tests: Sequence[StringTest]) -> StringTest:
    """The disjunction; of nothing: never."""
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda text: first(text) or second(text)
    return lambda text: any(test(text) for test in tests)


def _carries_port(value: str) -> bool:
    return "]:" in value if value.startswith("[") else ":" in value


def host_matches(matches: Sequence[StringMatch]) -> tuple[tuple[StringMatch, ...], tuple[StringMatch, ...]]:
    """Those that look at the host alone, and those that write a port and look at the whole authority."""
    bare: list[StringMatch] = []
    whole: list[StringMatch] = []
    for match in matches:
        if isinstance(match, Exact | Prefix | SegmentPrefix | Suffix) and _carries_port(match.value):
            whole.append(match)
        else:
            bare.append(Exact(match.value.rstrip(".")) if isinstance(match, Exact) else match)
    return tuple(bare), tuple(whole)


def compile_hosts(matches: Sequence[StringMatch]) -> StringTest:
    """A test of an authority, without regard to case; a match that writes no port ignores the port."""
    bare, whole = host_matches(matches)
    on_host = any_of([compile_string(match, ignore_case=True) for match in bare])
    if not whole:
        return lambda authority: on_host(host_of(authority))
    on_authority = any_of([compile_string(match, ignore_case=True) for match in whole])
    return lambda authority: on_host(host_of(authority)) or on_authority(authority)


def compile_header_condition(
    name: str, values: Sequence[StringMatch], not_values: Sequence[StringMatch], *, denies: bool
) -> RequestTest:
    """Istio's `request.headers[name]` over a header that may be sent several times.

    | holds when | absent | ALLOW rule | DENY and AUDIT rule |
    |---|---|---|---|
    | `values` | never | every value is one of them | any value is one of them |
    | `not_values` | always | no value is one of them | any value is none of them |
    """
    quantifier: Callable[[Iterable[object]], bool] = any if denies else all
    wanted = compile_any(values) if values else None
    unwanted = compile_any(not_values) if not_values else None

    def holds(request: Request) -> bool:
        received = request.headers.get(name)
        if not received:
            return wanted is None
        if wanted is not None and not quantifier(wanted(value) for value in received):
            return False
        return unwanted is None or quantifier(not unwanted(value) for value in received)

    return holds


def query_values(query: str) -> Mapping[str, str]:
    """Name → value of a raw query; of a name given twice the first counts and nothing is decoded (Envoy)."""
    found: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name:
            found.setdefault(name, value)
    return found


def compile_request(match: RequestMatch, *, port: int | None = None) -> RequestTest | None:
    """One route match; None when it holds for every request.

    Args:
        port: of the listener that asks; a match for another port never holds.
    """
    if match.port is not None and match.port != port:
        return _never
    tests: list[RequestTest] = []
    if match.method is not None:
        tests.append(_on_method(compile_string(match.method)))
    if match.path is not None:
        tests.append(_on_path(compile_path(match.path, ignore_case=match.ignore_path_case)))
    if match.scheme is not None:
        scheme = compile_string(match.scheme, ignore_case=True)
        tests.append(lambda request: scheme(request.scheme))
    if match.authority is not None:
        tests.append(_on_authority(match.authority))
    tests += [_on_header(header) for header in match.headers]
    if match.query:
        tests.append(_on_query(match.query))
    return all_of(tests)


def is_connect(match: RequestMatch | None) -> bool:
    """Whether a match means CONNECT by name; all others never take one (Envoy's `connect_matcher`)."""
    return match is not None and match.method == Exact("CONNECT")


def all_of(tests: Sequence[RequestTest]) -> RequestTest | None:
    """The conjunction; None of nothing: it always holds."""
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda request: first(request) and second(request)
    return lambda request: all(test(request) for test in tests)


def _never(_request: Request) -> bool:
    return False


def _on_method(test: StringTest) -> RequestTest:
    return lambda request: test(request.method)


def _on_path(test: StringTest) -> RequestTest:
    return lambda request: test(request.path)


def _on_authority(match: StringMatch) -> RequestTest:
    """A route's authority holds with the port or without: a Swarm caller writes `http://api:8080`."""
    test = compile_string(match, ignore_case=True)
    return lambda request: test(request.authority) or test(host_of(request.authority))


def _on_header(header: HeaderMatch) -> RequestTest:
    name = header.name
    test = compile_string(header.match) if header.match is not None else None

    def holds(request: Request) -> bool:
        received = request.headers.get(name)
        if received is None:
            return False
        return test is None or any(test(value) for value in received)

    if header.invert:
        return lambda request: not holds(request)
    return holds


def _on_query(wanted: Mapping[str, StringMatch]) -> RequestTest:
    tests = {
        name: (lambda _value: True) if isinstance(match, Present) else compile_string(match)
        for name, match in wanted.items()
    }

    def holds(request: Request) -> bool:
        values = query_values(request.query)
        return all(name in values and test(values[name]) for name, test in tests.items())

    return holds
