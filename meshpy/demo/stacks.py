"""Where the sample stacks are: beside a checkout's packages, inside a wheel's."""

from __future__ import annotations

from pathlib import Path

import meshpy

__all__ = ["stacks_folder"]


def stacks_folder() -> Path:
    """The folder that holds `shop.yml`."""
    package = Path(meshpy.__file__).parent
    shipped = package / "stacks"
    return shipped if shipped.is_dir() else package.parent / "stacks"
