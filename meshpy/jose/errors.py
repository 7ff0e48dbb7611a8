"""What can be wrong with a key set or a token."""

from __future__ import annotations

from meshpy.errors import MeshpyError

__all__ = ["JwksError", "TokenError"]


class JwksError(MeshpyError):
    """A text is no key set, or has no key that can be used."""


class TokenError(MeshpyError):
    """A token that is not accepted; the text says why and repeats nothing that a stranger wrote."""
