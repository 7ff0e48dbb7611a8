"""What lint can say: a code for each sort of finding, with its level and one-line meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from meshpy.errors import Place

__all__ = ["CODES", "Code", "Remark"]


class Code(NamedTuple):
    """`level` is info, warning or error."""

    level: str
    meaning: str


CODES: Mapping[str, Code] = {
    "MP100": Code("warning", "Another finding of the compiler."),
    "MP101": Code("warning", "A policy or selector picks nothing."),
    "MP102": Code("warning", "A rule or route decides no request: others come first, or nobody sends one."),
    "MP103": Code("warning", "An ALLOW rule of which DENY rules refuse every request."),
    "MP104": Code("warning", "Two rules or documents say the same thing, or both claim one host."),
    "MP105": Code("info", "A rule can go without any request being treated otherwise."),
    "MP106": Code("warning", "A rule allows any caller."),
    "MP107": Code("warning", "A host or service that is not known."),
    "MP108": Code("warning", "A port that the host has not, or a port that must be told."),
    "MP109": Code("warning", "A subset that is not defined, or that picks no service."),
    "MP110": Code("warning", "Weights that are not percents, or that do nothing."),
    "MP111": Code("warning", "A rule that can never match what the port speaks."),
    "MP112": Code("warning", "An ALLOW policy that leaves its workload closed to everybody."),
    "MP113": Code("warning", "An ALLOW rule made of exceptions only: it allows whatever is not named."),
    "MP114": Code("info", "A path prefix without a final slash also matches longer names."),
    "MP115": Code("info", "A workload that no policy covers."),
    "MP116": Code("warning", "A name outside of the naming convention."),
    "MP117": Code("warning", "A staged or dry-run policy whose time is over."),
    "MP118": Code("info", "Rules that can be dropped together, every verdict kept; with a complexity score."),
    "MP119": Code("warning", "A suppression without a reason, or one that suppresses nothing."),
    "MP120": Code("info", "A test that cannot be cut into classes: what is said of its rule is not exact."),
}


@dataclass(frozen=True, slots=True, order=True)
class Remark:
    """One finding.

    Args:
        subject: whom it is about, `AuthorizationPolicy shop/x rules[0]`.
        level: when it is another than the code's own.
    """

    place: Place
    code: str
    message: str
    instead: str = ""
    subject: str = ""
    level: str = ""

    @property
    def grade(self) -> str:
        return self.level or CODES[self.code].level
