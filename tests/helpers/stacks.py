"""Stack files for tests of the injector, and short ways to look at what became of them."""

from __future__ import annotations

from typing import Any

from meshpy.errors import DocumentError, Problem
from meshpy.inject import Injected, InjectOptions, inject
from meshpy.inject.stackfile import StackFile

HEAD = 'version: "3.8"\nservices:\n'


def injected(text: str, **options: Any) -> Injected:
    """Inject as the stack `shop`."""
    return inject(text, stack="shop", file="s.yml", options=InjectOptions(**options))


def model(text: str) -> Any:
    """What docker reads in a text."""
    return StackFile.parse(text).value


def services(text: str, **options: Any) -> Any:
    """The services of the injected text."""
    return model(injected(text, **options).text)["services"]


def problems(text: str, **options: Any) -> tuple[Problem, ...]:
    """Why a text is refused."""
    try:
        injected(text, **options)
    except DocumentError as error:
        return error.problems
    raise AssertionError("it was not refused")
