"""The inventory that a stack file would give once it is deployed: for a mesh without a Swarm."""

from __future__ import annotations

from pathlib import Path

from control_plane.errors import DiscoveryError
from meshpy.errors import MeshpyError
from meshpy.inject import inventory_of_stack
from meshpy.model.inventory import Inventory

__all__ = ["read_stack"]


def read_stack(path: Path, stack_name: str) -> Inventory:
    """Read a stack file as if it were deployed as `stack_name`.

    Raises:
        DiscoveryError: the file cannot be read, or is refused; every problem is named.
    """
    try:
        return inventory_of_stack(path.read_text(encoding="utf-8"), stack_name, str(path))
    except OSError as error:
        raise DiscoveryError(f"{path}: cannot be read: {error.strerror}") from error
    except (MeshpyError, ValueError) as error:
        raise DiscoveryError(f"{path}: {error}") from error
