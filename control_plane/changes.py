"""A change of the policy set, as it is wanted, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshpy.errors import Problem
from meshpy.model.names import ServiceName
from meshpy.policy.policy_set import Document as PolicyDocument

__all__ = ["Applied", "Change"]

Edit = Callable[[Sequence[PolicyDocument]], Sequence[PolicyDocument]]


@dataclass(frozen=True, slots=True)
class Change:
    """What is wanted, by whom and why.

    Args:
        edit: from the documents in force to those that are wanted.
        expected: the newest revision as the author knows it; None takes whatever it is.
    """

    edit: Edit
    author: str
    message: str = ""
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """The answer to a change.

    Args:
        revision: the newest one, unchanged after a dry run; of a canary the one it would become.
        changed: the services that decide otherwise than before.
    """

    revision: int
    warnings: tuple[Problem, ...]
    changed: frozenset[ServiceName]
