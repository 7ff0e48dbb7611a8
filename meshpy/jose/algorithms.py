"""How tokens may be signed (RFC 7518 §3.1 and RFC 9864): asymmetric ways alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["ALGORITHMS", "Algorithm"]


class Algorithm(NamedTuple):
    """Args:
    digest: `SHA256`, `SHA384` or `SHA512`.
    coordinate_bytes: of each half of a signature; 0 where it has none.
    """

    family: str
    digest: str
    is_pss: bool = False
    coordinate_bytes: int = 0


ALGORITHMS: Mapping[str, Algorithm] = {
    "RS256": Algorithm("RSA", "SHA256"),
    "RS384": Algorithm("RSA", "SHA384"),
    "RS512": Algorithm("RSA", "SHA512"),
    "PS256": Algorithm("RSA", "SHA256", is_pss=True),
    "PS384": Algorithm("RSA", "SHA384", is_pss=True),
    "PS512": Algorithm("RSA", "SHA512", is_pss=True),
    "ES256": Algorithm("P-256", "SHA256", coordinate_bytes=32),
    "ES384": Algorithm("P-384", "SHA384", coordinate_bytes=48),
    "ES512": Algorithm("P-521", "SHA512", coordinate_bytes=66),
    "EdDSA": Algorithm("Ed25519", "SHA512"),
    "Ed25519": Algorithm("Ed25519", "SHA512"),
}
"""RFC 7518 §3.1 and RFC 9864, asymmetric ones alone: `HS256` and `none` are not algorithms here."""
