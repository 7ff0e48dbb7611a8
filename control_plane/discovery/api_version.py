"""Which version of the Docker Engine API is spoken: the newest that both sides have.

Source: `GET /version` without a version in its path (Docker Engine API, "Versioning"). Engine 20.10 speaks
1.12 to 1.41, 29 drops what is older than 1.44; what is read here has one form from 1.40 on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from control_plane.errors import DiscoveryError

__all__ = ["NEWEST", "OLDEST", "spoken"]

OLDEST, NEWEST = (1, 40), (1, 54)
"""What is read and written here has one form from the first to the second."""

_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")


def spoken(told: object) -> str:
    """The version to speak with an engine, from its answer to `GET /version`.

    Raises:
        DiscoveryError: there is none in common, or the answer has another form.
    """
    if not isinstance(told, Mapping):
        raise DiscoveryError(f"the engine answered {type(told).__name__} to the question for its version")
    newest = _read(told, "ApiVersion")
    oldest = _read(told, "MinAPIVersion") if told.get("MinAPIVersion") else (1, 12)
    chosen = min(newest, NEWEST)
    if chosen < max(oldest, OLDEST):
        theirs = f"{_text(oldest)} to {_text(newest)}"
        raise DiscoveryError(f"the engine speaks API {theirs}, meshpy {_text(OLDEST)} to {_text(NEWEST)}")
    return _text(chosen)


def _read(told: Mapping[str, Any], key: str) -> tuple[int, int]:
    found = _VERSION.fullmatch(str(told.get(key, "")))
    if found is None:
        raise DiscoveryError(f"the engine says no {key}: {str(told.get(key))[:40]!r}")
    return int(found[1]), int(found[2])


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
