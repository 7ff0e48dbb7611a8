"""What is said where no traffic was found: often a name is misspelt."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from meshpy.client import Context, Operator

__all__ = ["misspelt"]


def misspelt(names: Iterable[str]) -> str:
    """Names that no service has, each with a near one; empty where every name is known.

    Args:
        names: `web`, `shop/web`, `outside` or empty, as the filters take them.
    """
    asked = sorted({name for name in names if name and name != "outside"})
    if not asked:
        return ""
    services = [each["name"] for each in Operator(Context.load()).call("GET", "/v1/status")["services"]]
    known = {*services, *(name.rpartition("/")[2] for name in services)}
    return "; ".join(_hint(name, known) for name in asked if name not in known)


def _hint(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"no service is called {name!r}" + (f", did you mean {near[0]!r}?" if near else "")
