"""Servers at the edge: published ports where the sidecar itself ends TLS, or sends callers to where it does.

The words are those of Istio's Gateway (`networking.istio.io/v1`, `servers[].tls`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "CIPHERS",
    "SECRETS",
    "IngressServer",
    "KeyPair",
    "ServerTls",
    "TlsMode",
    "TlsVersion",
    "covers_host",
    "specificity",
]

SECRETS = "/run/secrets/meshpy-tls-"
"""Where a sidecar finds the secret of a key."""

CIPHERS = tuple(
    f"ECDHE-{kind}-{cipher}"
    for kind in ("ECDSA", "RSA")
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
)
"""What may be offered of TLS 1.2, by OpenSSL's names; TLS 1.3 has its own, which nobody chooses."""


class TlsMode(StrEnum):
    """Whether callers need a certificate, and whether TLS ends here at all."""

    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    OPTIONAL_MUTUAL = "OPTIONAL_MUTUAL"
    PASSTHROUGH = "PASSTHROUGH"

    @property
    def asks_certificate(self) -> bool:
        return self in (TlsMode.MUTUAL, TlsMode.OPTIONAL_MUTUAL)


class TlsVersion(StrEnum):
    """What older ones Istio names are below what is allowed here."""

    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of PEM files in the sidecar: a certificate with its chain, and its key."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What is presented to, and asked of, callers that name one of `hosts`.

    Args:
        hosts: exact names, `*.suffix`, or `*` for every name and none.
        pairs: one or two (ECDSA and RSA); empty with PASSTHROUGH.
        ca: path of the roots of callers' certificates; empty unless the mode asks for one.
        subject_alt_names: a caller's certificate must carry one of them; empty takes any.
        ciphers: of CIPHERS, for TLS 1.2; empty offers all of them.
    """

    hosts: tuple[str, ...]
    mode: TlsMode
    pairs: tuple[KeyPair, ...] = ()
    ca: str = ""
    subject_alt_names: tuple[str, ...] = ()
    min_version: TlsVersion = TlsVersion.TLSV1_2
    max_version: TlsVersion = TlsVersion.TLSV1_3
    ciphers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IngressServer:
    """One published port.

    Args:
        port: where the sidecar listens, at its EDGE addresses.
        target: the app's port that it leads to.
        published: what callers outside use; for people.
        tls: by server name; empty for a server in plaintext.
        redirect_to: the published port of HTTPS to which plain requests are sent; 0 for none.
        proxy_protocol: every connection begins with a PROXY header, before TLS.
        hosts: of a server in plaintext: requests for others are answered 404; empty takes any.
        closed: hosts whose own server cannot be opened; no wildcard of another is for them.
    """

    port: int
    target: int
    published: int = 0
    tls: tuple[ServerTls, ...] = ()
    redirect_to: int = 0
    proxy_protocol: bool = False
    hosts: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()

    def is_for(self, name: str) -> bool:
        """Whether a server in plaintext takes requests for a host, lower case."""
        found = [host for host in self.hosts or ("*",) if covers_host(host, name)]
        return bool(found) and not self._is_closed(name, max(found, key=specificity))

    def tls_for(self, name: str) -> ServerTls | None:
        """The most specific of `tls` for a server name, lower case; empty is none."""
        found = [(host, each) for each in self.tls for host in each.hosts if covers_host(host, name)]
        if not found:
            return None
        host, tls = max(found, key=lambda pair: specificity(pair[0]))
        return None if self._is_closed(name, host) else tls

    def _is_closed(self, name: str, served: str) -> bool:
        """Whether what is closed says more of a name than the pattern by which it would be served."""
        return any(
            covers_host(host, name) and specificity(host) > specificity(served) for host in self.closed
        )


def covers_host(pattern: str, name: str) -> bool:
    """Whether a server's host means that name; `*.example.com` means all below it, not itself (Istio)."""
    if pattern == "*":
        return True
    return name.endswith(pattern[1:]) and len(name) >= len(pattern) if pattern[0] == "*" else name == pattern


def specificity(pattern: str) -> tuple[bool, int]:
    """Of patterns that mean a name the greatest counts: exact names, then the longest wildcard."""
    return not pattern.startswith("*"), len(pattern)
