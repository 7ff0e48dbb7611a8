"""What a verified JWT says of a request: Istio's `request.auth.*`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RequestAuth", "audiences_of", "auth_of", "claim_path"]

_SPACE_DELIMITED = ("scope", "permission")
"""Claims that Istio splits at spaces without being told."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestAuth:
    """One verified token; compared by identity, so that verdicts may be kept by it.

    Args:
        principal: `issuer/subject`; empty when the token has no subject.
        audiences: of `aud`, in its order.
        presenter: the `azp` claim.
        claims: the whole payload; space-delimited claims are lists.
    """

    principal: str = ""
    audiences: tuple[str, ...] = ()
    presenter: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict)

    def texts(self, path: Sequence[str]) -> tuple[str, ...]:
        """The values of a claim as conditions compare them; none when it is absent or an object.

        Istio compares strings and lists of strings; booleans and whole numbers are compared here too, as JSON
        writes them.
        """
        found: Any = self.claims
        for name in path:
            if not isinstance(found, Mapping) or name not in found:
                return ()
            found = found[name]
        values = found if isinstance(found, list) else [found]
        return tuple(text for value in values if (text := _text(value)) is not None)


def _text(value: Any) -> str | None:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case _:
            return None


def claim_path(key: str) -> tuple[str, ...]:
    """`request.auth.claims[a][b]` → `(a, b)`."""
    return tuple(key[len("request.auth.claims[") : -1].split("]["))


def auth_of(payload: Mapping[str, Any], space_delimited: Sequence[str] = ()) -> RequestAuth:
    """What a payload says, whether or not anybody vouches for it."""
    claims = dict(payload)
    for name in (*_SPACE_DELIMITED, *space_delimited):
        if isinstance(text := claims.get(name), str):
            claims[name] = text.split()
    issuer, subject, presenter = (payload.get(name) for name in ("iss", "sub", "azp"))
    is_named = isinstance(issuer, str) and isinstance(subject, str) and issuer and subject
    return RequestAuth(
        f"{issuer}/{subject}" if is_named else "",
        audiences_of(payload),
        presenter if isinstance(presenter, str) else "",
        claims,
    )


def audiences_of(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """`aud` is one string or a list of them (RFC 7519 §4.1.3)."""
    found = payload.get("aud")
    values = found if isinstance(found, list) else [found]
    return tuple(value for value in values if isinstance(value, str))
