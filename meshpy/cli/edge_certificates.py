"""Certificates of published ports, looked at before anything is deployed, as far as they are files here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from certs.edge import edge_context, load_pair
from certs.errors import CertError
from meshpy.errors import MeshpyError
from meshpy.inject.interpolation import interpolate
from meshpy.inject.servers import secret_of
from meshpy.inject.words import text_of
from meshpy.model.ingress import IngressServer

__all__ = ["check_certificates"]


def check_certificates(
    servers: Mapping[str, tuple[IngressServer, ...]],
    secrets: Mapping[str, Any],
    folder: Path,
    now: datetime,
    env: Mapping[str, str] = os.environ,
) -> None:
    """Refuse what a sidecar would refuse: it would never become healthy, and the update end minutes later.

    Args:
        servers: by service.
        secrets: the section of the file; what is external or made otherwise cannot be looked at.
        folder: from which paths of the file are meant.

    Raises:
        MeshpyError: what is wrong, with file, service and port.
    """

    def file_of(path: str) -> Path | None:
        definition = secrets.get(secret_of(path))
        text = text_of(definition.get("file")) if isinstance(definition, dict) else ""
        return folder / interpolate(text, env) if text else None

    wrong = []
    for service, server, problem in _problems(servers, file_of, now):
        wrong.append(f"{service}, published port {server.published}: {problem}")
    if wrong:
        raise MeshpyError("\n".join(dict.fromkeys(wrong)))


def _problems(
    servers: Mapping[str, tuple[IngressServer, ...]], file_of: Callable[[str], Path | None], now: datetime
) -> Iterator[tuple[str, IngressServer, CertError]]:
    for service, each in servers.items():
        for server in each:
            for tls in server.tls:
                files = [(file_of(pair.certificate), file_of(pair.key)) for pair in tls.pairs]
                try:
                    pairs = [load_pair(one, two, now) for one, two in files if one and two]
                    roots = file_of(tls.ca) if tls.ca else None
                    edge_context(pairs, alpn=(), roots=roots)
                except CertError as error:
                    yield service, server, error
