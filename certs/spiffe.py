"""SPIFFE IDs: parsed once, strictly, and trusted as values afterwards.

Source: SPIFFE-ID §2 (trust domain, path, maximum lengths). Nothing is normalised: two texts are the same
identity only if they are the same bytes, so a text that would need normalising is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from certs.errors import SpiffeIdError

__all__ = ["MAX_ID_BYTES", "MAX_TRUST_DOMAIN_BYTES", "SpiffeId", "checked_trust_domain"]

MAX_ID_BYTES = 2048
MAX_TRUST_DOMAIN_BYTES = 255

_PREFIX = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """A SPIFFE ID in its two parts.

    Args:
        trust_domain: `mesh.test`.
        path: empty (the trust domain itself) or `/`-led, `/ns/shop/sa/api`.

    Raises:
        SpiffeIdError: on construction, if either part breaks a rule; so an invalid value does not exist.
    """

    trust_domain: str
    path: str = ""

    def __post_init__(self) -> None:
        checked_trust_domain(self.trust_domain)
        _check_path(self.path)
        if len(_PREFIX) + len(self.trust_domain) + len(self.path) > MAX_ID_BYTES:
            raise SpiffeIdError(f"a SPIFFE ID has at most {MAX_ID_BYTES} bytes")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URI such as `spiffe://mesh.test/ns/shop/sa/api`.

        Raises:
            SpiffeIdError: the text is anything else, a differently spelt equivalent included.
        """
        if len(text) > MAX_ID_BYTES:
            raise SpiffeIdError(
                f"a SPIFFE ID has at most {MAX_ID_BYTES} bytes, this has {len(text)} characters"
            )
        if not text.startswith(_PREFIX):
            raise SpiffeIdError(f"a SPIFFE ID begins with {_PREFIX}, in lower case: {text!r}")
        trust_domain, slash, path = text.removeprefix(_PREFIX).partition("/")
        return cls(trust_domain, slash + path)

    @classmethod
    def for_service(cls, trust_domain: str, namespace: str, service: str) -> Self:
        """The identity of a service of a stack: `spiffe://<trust domain>/ns/<namespace>/sa/<service>`."""
        for role, name in (("namespace", namespace), ("service", service)):
            if "/" in name:
                raise SpiffeIdError(f"a {role} is one path segment, without '/': {name!r}")
        return cls(trust_domain, f"/ns/{namespace}/sa/{service}")

    @property
    def namespace(self) -> str | None:
        """The stack, or None when the path is not `/ns/<namespace>/sa/<service>`."""
        names = self._names()
        return names[0] if names else None

    @property
    def service(self) -> str | None:
        """The service, or None when the path is not `/ns/<namespace>/sa/<service>`."""
        names = self._names()
        return names[1] if names else None

    @property
    def principal(self) -> str:
        """The ID without `spiffe://`, the form of Istio's `principals`."""
        return self.trust_domain + self.path

    def _names(self) -> tuple[str, str] | None:
        match self.path.split("/"):
            case ["", "ns", namespace, "sa", service]:
                return namespace, service
            case _:
                return None

    def __str__(self) -> str:
        return _PREFIX + self.trust_domain + self.path


def checked_trust_domain(text: str) -> str:
    """Return `text` if it is a trust domain name (SPIFFE-ID §2.1).

    The character set leaves no room for upper case, a port, userinfo or percent-encoding.

    Raises:
        SpiffeIdError: it is not.
    """
    if not _TRUST_DOMAIN.fullmatch(text):
        raise SpiffeIdError(f"a trust domain is made of a-z 0-9 . _ - : {text[:80]!r}")
    if len(text) > MAX_TRUST_DOMAIN_BYTES:
        raise SpiffeIdError(
            f"a trust domain has at most {MAX_TRUST_DOMAIN_BYTES} bytes, this has {len(text)}"
        )
    return text


def _check_path(path: str) -> None:
    if not path:
        return
    first, *segments = path.split("/")
    if first:
        raise SpiffeIdError(f"a path begins with '/': {path[:80]!r}")
    for segment in segments:
        if not segment:
            raise SpiffeIdError(f"a path has no empty segment and no trailing '/': {path[:80]!r}")
        if segment in {".", ".."}:
            raise SpiffeIdError(f"a path has no relative segment: {path[:80]!r}")
        if not _SEGMENT.fullmatch(segment):
            raise SpiffeIdError(f"a path segment is made of a-z A-Z 0-9 . _ - : {segment[:80]!r}")
