"""What Gateway documents say, Istio's and Gateway API's alike, as frozen values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from meshpy.errors import Place
from meshpy.model.ingress import SECRETS, KeyPair, ServerTls, TlsMode, TlsVersion
from meshpy.policy.meta import Meta

__all__ = ["GatewayDoc", "RoutesFrom", "ScopedHost", "ServerDoc", "TlsDoc"]

ANY_NAMESPACE = "*"


@dataclass(frozen=True, slots=True)
class ScopedHost:
    """`namespace/host`: routes of that namespace alone may be for it; `*` is any namespace."""

    host: str
    namespace: str = ANY_NAMESPACE


@dataclass(frozen=True, slots=True)
class TlsDoc:
    """How TLS ends at a server; secrets are named, not found yet.

    Args:
        credential: `credentialName`; else `certificate` and `key` are named one by one.
        ciphers: of TLS 1.2, OpenSSL's names; empty offers all that are allowed.
    """

    place: Place
    mode: TlsMode
    credential: str = ""
    certificate: str = ""
    key: str = ""
    ca: str = ""
    subject_alt_names: tuple[str, ...] = ()
    min_version: TlsVersion = TlsVersion.TLSV1_2
    max_version: TlsVersion = TlsVersion.TLSV1_3
    ciphers: tuple[str, ...] = ()

    def secrets(self, known: Collection[str]) -> tuple[tuple[str, str], ...]:
        """The secrets that it needs, each with what it is for; of two names that which is `known`."""
        if self.mode is TlsMode.PASSTHROUGH:
            return ()
        certificate, key = self._pair(known)
        found = [(certificate, "a certificate"), (key, "its key")]
        if self.mode.asks_certificate:
            found.append((self._roots(known), "the roots of callers' certificates"))
        return tuple(found)

    def settled(self, hosts: tuple[str, ...], known: Collection[str]) -> ServerTls:
        """With the files under which a sidecar finds its secrets."""
        pairs: tuple[KeyPair, ...] = ()
        if self.mode is not TlsMode.PASSTHROUGH:
            certificate, key = self._pair(known)
            pairs = (KeyPair(SECRETS + certificate, SECRETS + key),)
        roots = SECRETS + self._roots(known) if self.mode.asks_certificate else ""
        return ServerTls(
            hosts,
            self.mode,
            pairs,
            roots,
            self.subject_alt_names,
            self.min_version,
            self.max_version,
            self.ciphers,
        )

    def _pair(self, known: Collection[str]) -> tuple[str, str]:
        if not self.credential:
            return self.certificate, self.key
        if self.credential in known:
            return self.credential, self.credential
        return f"{self.credential}.crt", f"{self.credential}.key"

    def _roots(self, known: Collection[str]) -> str:
        if self.ca:
            return self.ca
        named = (f"{self.credential}.ca", f"{self.credential}-cacert")
        return next((name for name in named if name in known), named[0])


@dataclass(frozen=True, slots=True)
class RoutesFrom:
    """`allowedRoutes` of a listener: whose routes, and of which kinds; None is any."""

    namespaces: frozenset[str] | None = None
    kinds: frozenset[str] | None = None


_HTTPS_PORT = 443


@dataclass(frozen=True, slots=True)
class ServerDoc:
    """One of `servers`, or one of `listeners`.

    Args:
        port: the published one.
        protocol: as written, upper case; empty where it is not said.
        hosts: at least one; `*` is every name.
        tls: None for a port in plaintext.
        redirects: it sends callers to where HTTPS is.
    """

    place: Place
    port: int
    protocol: str
    hosts: tuple[ScopedHost, ...]
    tls: TlsDoc | None = None
    redirects: bool = False
    name: str = ""
    routes: RoutesFrom = RoutesFrom()

    @property
    def sort(self) -> str:
        """Of servers on one port all have the same."""
        if self.tls is not None:
            return "TLS"
        return "redirect" if self.redirects else "TCP" if self.protocol == "TCP" else "HTTP"

    @property
    def is_https(self) -> bool:
        """Whether callers may be sent here from a port in plaintext; who ends TLS is no matter to them."""
        return self.tls is not None and (self.protocol in ("", "HTTPS") or self.port == _HTTPS_PORT)

    @property
    def is_http(self) -> bool:
        """Whether requests are read here, and routes may lead them elsewhere."""
        return self.protocol in ("", "HTTP", "HTTPS", "HTTP2", "GRPC") and (
            self.tls is None or self.tls.mode is not TlsMode.PASSTHROUGH
        )


@dataclass(frozen=True, slots=True)
class GatewayDoc:
    """Gateway.

    Args:
        selector: labels of the services whose published ports it opens; None picks by the port alone, as
            Gateway API's Gateway does, which has no selector.
    """

    meta: Meta
    servers: tuple[ServerDoc, ...]
    selector: Mapping[str, str] | None = None

    @property
    def leads_to_app(self) -> bool:
        """Whether hosts without a route go to the app behind the port (Gateway API: 404)."""
        return self.selector is not None
