"""A check, what came of it, and the run of many in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from meshpy.errors import MeshpyError

if TYPE_CHECKING:
    from meshpy.cli.checks.site import Site

__all__ = [
    "Check",
    "Outcome",
    "Result",
    "Verdict",
    "failed",
    "is_passed",
    "ok",
    "run_checks",
    "unknown",
    "warning",
]


class Result(StrEnum):
    """As `linkerd check -o json` names them; `unknown` is ours: nobody could look."""

    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found.

    Args:
        detail: what is wrong, or, of a success, what was seen.
        hint: what to do.
    """

    result: Result
    detail: str = ""
    hint: str = ""


def ok(detail: str = "") -> Verdict:
    return Verdict(Result.SUCCESS, detail)


def warning(detail: str, hint: str = "") -> Verdict:
    return Verdict(Result.WARNING, detail, hint)


def failed(detail: str, hint: str = "") -> Verdict:
    return Verdict(Result.ERROR, detail, hint)


def unknown(why: str, hint: str = "") -> Verdict:
    return Verdict(Result.UNKNOWN, f"could not be checked: {why}", hint)


@dataclass(frozen=True, slots=True)
class Check:
    """One fact.

    Args:
        anchor: of its heading in docs/check.md; names the check too.
        needs: anchors of checks without whose success this one cannot be made.
        is_advisory: nothing stands or falls with it, so not knowing it is no failure.
    """

    section: str
    anchor: str
    fact: str
    look: Callable[[Site], Verdict]
    needs: tuple[str, ...] = ()
    is_advisory: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A check and its verdict."""

    check: Check
    verdict: Verdict

    @property
    def docs(self) -> str:
        return f"docs/check.md#{self.check.anchor}"

    def to_json(self) -> dict[str, Any]:
        """One entry of `checks`; a success has only its fact, and what was seen."""
        verdict = self.verdict
        shown = {"description": self.check.fact, "result": str(verdict.result)}
        if verdict.result is Result.SUCCESS:
            return shown | ({"detail": verdict.detail} if verdict.detail else {})
        return {**shown, "error": verdict.detail, "hint": verdict.hint, "docs": self.docs}


def run_checks(checks: Iterable[Check], site: Site) -> Iterator[Outcome]:
    """Make each check, in order."""
    broken: dict[str, str] = {}
    for check in checks:
        missing = next((broken[name] for name in check.needs if name in broken), "")
        verdict = unknown(missing) if missing else _look(check, site)
        if verdict.result in (Result.ERROR, Result.UNKNOWN):
            broken[check.anchor] = missing or f"{check.fact}: no"
        yield Outcome(check, verdict)


def _look(check: Check, site: Site) -> Verdict:
    try:
        return check.look(site)
    except MeshpyError as error:
        return unknown(str(error))


def is_passed(outcomes: Sequence[Outcome]) -> bool:
    """Nothing failed, and everything that matters was seen."""
    return not any(
        each.verdict.result is Result.ERROR
        or (each.verdict.result is Result.UNKNOWN and not each.check.is_advisory)
        for each in outcomes
    )
