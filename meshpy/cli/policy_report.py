"""Policy test results as a JUnit file, which every CI system reads."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from meshpy.cli.policy_table import Outcome

__all__ = ["junit_of"]


def junit_of(outcomes: Sequence[Outcome]) -> str:
    """One suite; a case's class is its file."""
    failed = sum(not outcome.passed for outcome in outcomes)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name="meshpy policy test" tests="{len(outcomes)}" failures="{failed}" errors="0">',
    ]
    for outcome in outcomes:
        place = outcome.case.place
        lines.append(
            f"  <testcase classname={quoteattr(place.file)} name={quoteattr(outcome.case.title)}"
            f" file={quoteattr(place.file)} line={quoteattr(str(place.line))}>"
        )
        if not outcome.passed:
            text = "\n".join(outcome.failures)
            lines.append(f"    <failure message={quoteattr(outcome.failures[0])}>{escape(text)}</failure>")
        lines.append("  </testcase>")
    return "\n".join([*lines, "</testsuite>", ""])
