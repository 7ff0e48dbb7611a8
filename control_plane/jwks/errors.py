"""What goes wrong with keys."""

from __future__ import annotations

from meshpy.errors import MeshpyError

__all__ = ["KeysError"]


class KeysError(MeshpyError):
    """Keys that could not be fetched; the text says why."""
