"""Authentication: which tokens a workload accepts and from where; mTLS modes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["JwtRule", "MtlsMode", "TokenHeader"]


class MtlsMode(StrEnum):
    """Istio PeerAuthentication's modes that a mesh of sidecars has; see `policy.peer_authentication`."""

    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


@dataclass(frozen=True, slots=True)
class TokenHeader:
    """A header that may carry a token.

    Args:
        name: lower case.
        prefix: what stands before the token, `Bearer ` for instance.
    """

    name: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class JwtRule:
    """One `jwtRules[]` of an Istio RequestAuthentication.

    Invariant: at least one of `from_headers`, `from_params` and `from_cookies` is given.

    Args:
        policy: `RequestAuthentication shop/jwt`, as every refusal names it.
        name: `jwtRules[0]`.
        audiences: of which the token must name one; empty accepts any.
        jwks: the issuer's key set as JSON; empty while it is not known: then no token is valid.
        forward: the token stays in the request.
        payload_header: gets the token's payload, base64url; lower case, empty for none.
        claim_headers: (header, path of the claim).
        space_delimited: claims that are split at spaces, besides `scope` and `permission`.
    """

    policy: str
    name: str
    issuer: str
    audiences: tuple[str, ...] = ()
    jwks: str = ""
    from_headers: tuple[TokenHeader, ...] = ()
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    forward: bool = False
    payload_header: str = ""
    claim_headers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    space_delimited: tuple[str, ...] = ()
