"""Certificates from the control plane: the first by a join token, the next by the one that is held.

The control plane is who its SPIFFE id says, checked inside the handshake; a name on a shared network proves
nothing.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from certs.bundle import TrustBundle
from certs.errors import CertError
from certs.identity import Identity
from certs.spiffe import SpiffeId
from certs.tls import anonymous_context, client_context, judged, verify_peer
from meshpy.errors import MeshpyError
from meshpy.model.names import CONTROL_PLANE, host_port
from proxy.new_request import NewRequest
from proxy.options import ControlOptions
from proxy.posting import post
from proxy.replicas import dial

__all__ = ["FAILURES", "Enrolled", "EnrolmentError", "enrol", "own_id", "stream_context"]

_ALPN = ("http/1.1",)
_CONNECT_S = 3.0
_TOTAL_S = 10.0


class EnrolmentError(MeshpyError):
    """The control plane gave no certificate; the text says why.

    Args:
        status: of its answer; 0 when that was not understood.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        self.status = status
        super().__init__(message)

    @property
    def is_verdict(self) -> bool:
        """Whether it knows who asks and says no, as against being too busy or out of order."""
        return self.status in (401, 403)


FAILURES = (MeshpyError, CertError, OSError, TimeoutError, UnicodeError)
"""What an attempt to reach the control plane may end with."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What the control plane gave.

    Args:
        addresses: of this task, by network.
    """

    identity: Identity
    bundle: TrustBundle
    addresses: Mapping[str, tuple[str, ...]]


def own_id(options: ControlOptions) -> SpiffeId:
    """The identity that this sidecar is for."""
    namespace, _, service = options.service.partition("/")
    return SpiffeId.for_service(options.trust_domain, namespace, service)


def stream_context(options: ControlOptions, identity: Identity, bundle: TrustBundle) -> ssl.SSLContext:
    """TLS to the control plane with our certificate.

    Raises:
        CertError: OpenSSL refuses certificate or bundle.
    """
    return _to_control_plane(client_context(identity, bundle, alpn=_ALPN), options.trust_domain)


async def enrol(
    options: ControlOptions, made: NewRequest, current: Identity | None, bundle: TrustBundle
) -> Enrolled:
    """Ask for a certificate of a new key: with `current` while it is valid, else with the join token.

    The server name says which root we believe in: a task may begin with a bundle from before a rotation.

    Raises:
        EnrolmentError: the control plane refuses, or its answer is not understood.
        CertError: the answer holds no certificate of ours.
        PostingError, OSError, TimeoutError: it cannot be reached, or the token cannot be read.
    """
    spiffe_id = own_id(options)
    request = {
        "csr": made.csr,
        "service": options.service,
        "task": options.task,
    }
    if current is not None and current.not_after > datetime.now(UTC):
        context = stream_context(options, current, bundle)
    else:
        request["token"] = options.token_file.read_text(encoding="utf-8").strip()
        context = _to_control_plane(anonymous_context(bundle, alpn=_ALPN), options.trust_domain)
    answer = await _post(options, request, context, bundle.label)
    try:
        identity = Identity.from_pem(answer["chain"].encode(), made.key_pem)
        believed = TrustBundle.from_pem(options.trust_domain, answer["bundle"].encode())
        addresses = {str(name): tuple(map(str, own)) for name, own in answer["addresses"].items()}
    except (KeyError, AttributeError, TypeError) as error:
        raise EnrolmentError(f"the control plane's answer is not understood: {error!r}") from error
    if identity.spiffe_id != spiffe_id:
        raise EnrolmentError(f"asked for {spiffe_id}, was given {identity.spiffe_id}")
    return Enrolled(identity, believed, addresses)


def _to_control_plane(context: ssl.SSLContext, trust_domain: str) -> ssl.SSLContext:
    expected = frozenset((SpiffeId(trust_domain, CONTROL_PLANE.spiffe_path),))
    return judged(context, lambda tls: verify_peer(tls, trust_domain, datetime.now(UTC), expected=expected))


async def _post(options: ControlOptions, body: object, context: ssl.SSLContext, server_name: str) -> Any:
    async with asyncio.timeout(_TOTAL_S):
        async with asyncio.timeout(_CONNECT_S):
            link = await dial(options.address, options.port, context, server_name)
        try:
            status, text = await post(
                link, host_port(options.address, options.port), "/v1/certificates", body
            )
        finally:
            link[1].transport.abort()
    if status != 200:
        raise EnrolmentError(f"{status} {_problem_of(text)}", status)
    try:
        return json.loads(text)
    except ValueError as error:
        raise EnrolmentError("no JSON in the control plane's answer") from error


def _problem_of(text: str) -> str:
    """The sentence of a problem+json answer, else its beginning."""
    try:
        problem = json.loads(text)
        return str(problem.get("detail") or problem.get("title") or text[:200])
    except (ValueError, AttributeError):
        return text[:200]
