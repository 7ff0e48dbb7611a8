"""`POST /v1/certificates`: a first certificate by attestation, the next ones by the one that is held."""

from __future__ import annotations

import ipaddress
import logging
import ssl
import time
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from certs.ca import IssuedCertificate
from certs.csr import check_csr
from certs.errors import CertError, PeerRefused
from certs.spiffe import SpiffeId
from certs.tls import peer_id
from control_plane.api.body import json_body, member
from control_plane.attest import Attested, Claim, require_meshed
from control_plane.errors import (
    AttestationRefused,
    ControlPlaneError,
    RateLimited,
    StoreError,
    Unauthenticated,
)
from control_plane.parts import Parts
from control_plane.tokens import JoinToken, checked_service
from meshpy.model.names import ServiceName

__all__ = ["CertificateRoute", "peer_of", "source_address"]

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024


def source_address(request: web.Request) -> str:
    """Where the connection came from; headers are not believed."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    address = ipaddress.ip_address(str(peer[0]).partition("%")[0]) if peer else None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address or "")


def peer_of(request: web.Request, trust_domain: str) -> SpiffeId | None:
    """The SVID that this connection shows, judged again by the clock of now; None without any.

    Raises:
        Unauthenticated: there is one, and it is not valid (any more).
    """
    tls = request.transport.get_extra_info("ssl_object") if request.transport else None
    if not isinstance(tls, ssl.SSLObject) or not tls.getpeercert(binary_form=True):
        return None
    try:
        return peer_id(tls, trust_domain, datetime.now(UTC))
    except PeerRefused as error:
        raise Unauthenticated(f"the client certificate is refused ({error.reason}); enrol again") from error


class CertificateRoute:
    """Args:
    parts: of which the CA signs only what the attestor returned.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def handle(self, request: web.Request) -> web.Response:
        address = source_address(request)
        facts: dict[str, str | int] = {"address": address}
        try:
            self._parts.enrolments.take(address, time.monotonic())
            attested, issued = await self._issue(request, address, facts)
        except RateLimited:
            raise  # counted by the bucket; writing each one down would be the attack's second half
        except (ControlPlaneError, CertError) as error:
            await self._refused(error, facts)
            raise
        await self._parts.audit.write(
            "certificate-issued", **facts, serial=f"{issued.serial:x}", not_after=_rfc3339(issued.not_after)
        )
        self._parts.audit.issued += 1
        self._parts.followers.issued(attested.service, attested.task, issued.not_after)
        return web.json_response(self._answer(attested, issued))

    async def _issue(
        self, request: web.Request, address: str, facts: dict[str, str | int]
    ) -> tuple[Attested, IssuedCertificate]:
        body = await json_body(request, MAX_BODY)
        service = checked_service(member(body, "service", str))
        facts["service"] = str(service)
        task = member(body, "task", str, "")
        facts["task"] = task
        token = self._prove(request, service, body.get("token"), address)
        facts["by"] = f"token {token.id}" if token is not None else "certificate"
        self._parts.denylist.check(service)
        csr = member(body, "csr", str).encode("utf-8", "surrogatepass")
        attested = await self._attest(Claim(service, task, address), token, csr)
        return attested, await self._parts.signing.issue(csr, attested.service)

    async def _attest(self, claim: Claim, token: JoinToken | None, csr: bytes) -> Attested:
        """On the Swarm the engine must agree; outside, a token for one certificate is spent, and who came in
        by one renews from where it came.

        Raises:
            AttestationRefused, Unauthenticated: some evidence is missing; the message says which.
        """
        parts = self._parts
        if token is not None and token.is_once:
            require_meshed(parts.registry.view, claim.service)
            check_csr(csr, parts.signing.spiffe_id(claim.service))  # a bad one must not cost the token
            await parts.ledger.spend(token, claim.address, datetime.now(UTC))
            return Attested(claim.service, claim.task, {})
        try:
            return await parts.attestor.attest(claim)
        except AttestationRefused as error:
            if token is not None or error.evidence == "service":
                raise
            if not await parts.ledger.has_joined(claim.service, claim.address):
                raise
            return Attested(claim.service, claim.task, {})

    def _prove(
        self, request: web.Request, service: ServiceName, token: object, address: str
    ) -> JoinToken | None:
        """Compare the claimed service with the certificate or the token of the caller.

        Returns:
            The token; None when it was a certificate.

        Raises:
            Unauthenticated: neither is there, or it does not verify.
            AttestationRefused: it proves another service.
        """
        held = peer_of(request, self._parts.signing.trust_domain)
        if held is not None:
            if held != self._parts.signing.spiffe_id(service):
                raise AttestationRefused(
                    "certificate", f"the certificate shown is of {held}, not of {service}"
                )
            return None
        if token is None:
            raise Unauthenticated("a join token is needed, or a connection with a valid certificate")
        proven = self._parts.tokens.read(token, datetime.now(UTC))
        self._parts.ledger.check(proven)
        if proven.service != service:
            raise AttestationRefused("token", f"the join token is of another service than {service}")
        if proven.address and proven.address != address:
            raise AttestationRefused("address", f"the join token is for {proven.address}, not for {address}")
        return proven

    async def _refused(self, error: Exception, facts: dict[str, str | int]) -> None:
        self._parts.audit.refused += 1
        log.warning("certificate refused: %s %r", error, facts)
        if not isinstance(error, StoreError):
            await self._parts.audit.write(
                "certificate-refused", **facts, error=type(error).__name__, reason=str(error)
            )

    def _answer(self, attested: Attested, issued: IssuedCertificate) -> dict[str, Any]:
        return {
            "chain": issued.chain_pem.decode("ascii"),
            "bundle": self._parts.signing.bundle_pem,
            "not_after": _rfc3339(issued.not_after),
            "addresses": {network: list(found) for network, found in attested.addresses.items()},
        }


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
