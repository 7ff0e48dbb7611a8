"""The servers of a snapshot made ready: certificates read, judged, and turned into TLS contexts.

What is in force stays in force while its files stay the same: a certificate that ends meanwhile is told, and
does not keep a new policy out.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from certs.errors import CertError
from meshpy.errors import MeshpyError
from meshpy.model.ingress import IngressServer, ServerTls, TlsMode, TlsVersion
from meshpy.model.snapshot import Snapshot
from proxy.net.tls import ALPN_H2, ALPN_HTTP

if TYPE_CHECKING:
    from certs.edge import EdgePair

__all__ = ["EdgeServer", "edge_servers"]

_log = logging.getLogger("meshpy.proxy")

_SOON = timedelta(days=14)
_VERSIONS = {TlsVersion.TLSV1_2: ssl.TLSVersion.TLSv1_2, TlsVersion.TLSV1_3: ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class EdgeServer:
    """A server with its contexts, in the order of `server.tls`; None passes TLS through.

    Args:
        digest: of every file that was read.
        not_after: when the first of its certificates ends; None without one.
    """

    server: IngressServer
    digest: str
    contexts: tuple[ssl.SSLContext | None, ...]
    not_after: datetime | None

    def choose(self, name: str) -> tuple[ServerTls, ssl.SSLContext | None] | None:
        """What is presented to callers of that server name; None when it is not served here."""
        found = self.server.tls_for(name)
        if found is None:
            return None
        return found, self.contexts[self.server.tls.index(found)]


def edge_servers(snapshot: Snapshot, before: Mapping[int, EdgeServer]) -> dict[int, EdgeServer]:
    """Every server by the port on which the sidecar listens for it.

    Raises:
        MeshpyError: a certificate cannot be used; the file and the published port are named.
    """
    http = {port.port for port in snapshot.inbound if port.protocol.is_http}
    found: dict[int, EdgeServer] = {}
    for server in snapshot.servers:
        digest = _digest(server)
        known = before.get(server.port)
        if known is not None and known.server == server and known.digest == digest:
            found[server.port] = known
            continue
        try:
            found[server.port] = _made(server, digest, is_http=server.target in http)
        except CertError as error:
            raise MeshpyError(
                f"the published port {server.published} stays closed, and with it this sidecar: {error}"
            ) from error
    return found


def _made(server: IngressServer, digest: str, *, is_http: bool) -> EdgeServer:
    from certs.edge import edge_context, load_pair  # noqa: PLC0415 - the X.509 library, for gateways alone

    now = datetime.now(UTC)
    contexts: list[ssl.SSLContext | None] = []
    ends: list[datetime] = []
    for tls in server.tls:
        if tls.mode is TlsMode.PASSTHROUGH:
            contexts.append(None)
            continue
        pairs = [load_pair(Path(pair.certificate), Path(pair.key), now) for pair in tls.pairs]
        _tell(server, tls, pairs, now)
        ends += [pair.not_after for pair in pairs]
        contexts.append(
            edge_context(
                pairs,
                alpn=(ALPN_H2, ALPN_HTTP) if is_http else (),
                versions=(_VERSIONS[tls.min_version], _VERSIONS[tls.max_version]),
                roots=Path(tls.ca) if tls.mode.asks_certificate else None,
                is_optional=tls.mode is TlsMode.OPTIONAL_MUTUAL,
                ciphers=tls.ciphers,
            )
        )
    return EdgeServer(server, digest, tuple(contexts), min(ends, default=None))


def _tell(server: IngressServer, tls: ServerTls, pairs: Iterable[EdgePair], now: datetime) -> None:
    """What works, and will not for long or not for everybody."""
    for pair in pairs:
        if pair.not_after - now < _SOON:
            _log.warning(
                "port %d: %s expires at %s", server.published, pair.certificate, pair.not_after.isoformat()
            )
        missed = [host for host in tls.hosts if host != "*" and not pair.covers(host)]
        if missed:
            _log.warning(
                "port %d: %s is for %s; callers of %s will refuse it",
                server.published,
                pair.certificate,
                ", ".join(pair.names) or "no name",
                ", ".join(missed),
            )


def _digest(server: IngressServer) -> str:
    """Of the contents of all its files; one that cannot be read counts as its name."""
    digest = hashlib.sha256()
    for tls in server.tls:
        for path in (*(part for pair in tls.pairs for part in (pair.certificate, pair.key)), tls.ca):
            try:
                digest.update(Path(path).read_bytes() if path else b"\0")
            except OSError:
                digest.update(path.encode())
    return digest.hexdigest()
