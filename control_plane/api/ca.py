"""`/v1/ca`: the CA's certificates, how far sidecars have taken them, and revoked identities."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from control_plane.api.operators import Role, require
from control_plane.api.policies import message_of
from control_plane.api.routes import Route
from control_plane.api.texts import prose
from control_plane.api.trust_schemas import CA, DENIED
from control_plane.parts import Parts
from control_plane.tokens import checked_service

__all__ = ["CaRoutes"]

WHY = {"message": (prose(1_000), "why")}


class CaRoutes:
    """Handlers of the CA."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        answer = (200, "the CA", CA)
        denied = (200, "the revoked identities", DENIED)
        one = "/v1/ca/denied/{namespace}/{name}"
        return [
            Route("GET", "/v1/ca", self.show_ca, Role.VIEWER, "The CA's certificates", answer),
            Route("GET", "/v1/ca/denied", self.denied, Role.VIEWER, "Revoked identities", denied),
            Route("PUT", one, self.deny, Role.ADMIN, "Revoke the identity of a service", denied, WHY),
            Route("DELETE", one, self.restore, Role.ADMIN, "Restore the identity of a service", denied),
        ]

    async def show_ca(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        signing = self._parts.signing
        state = signing.state
        return web.json_response(
            {
                "trust_domain": signing.trust_domain,
                "signer": signing.signer.describe(),
                "phase": str(state.phase) if state is not None else "steady",
                "roots": [_certificate(root) for root in signing.bundle.certificates],
                "intermediate": _certificate(signing.issuing),
                "leaf_ttl_s": signing.ttl_s,
                "audit": {
                    "records": self._parts.audit.chain.records,
                    "head": self._parts.audit.chain.head,
                    "broken_at": self._parts.audit.chain.broken_at,
                },
                "issued": self._parts.audit.issued,
                "refused": self._parts.audit.refused,
            }
        )

    async def denied(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        return self._denied()

    async def deny(self, request: web.Request) -> web.Response:
        author = require(request, Role.ADMIN)
        service = _service(request)
        message = message_of(request.query.get("message", ""))
        await self._parts.audit.write("identity-revoked", author=author, service=str(service), why=message)
        await self._parts.denylist.deny(service, author=author, message=message)
        return self._denied()

    async def restore(self, request: web.Request) -> web.Response:
        author = require(request, Role.ADMIN)
        service = _service(request)
        await self._parts.denylist.restore(service, author=author)
        await self._parts.audit.write("identity-restored", author=author, service=str(service))
        return self._denied()

    def _denied(self) -> web.Response:
        documents = self._parts.denylist.revision.documents
        listed = [{"service": each.name, "message": each.text} for each in documents]
        return web.json_response({"denied": listed})


def _service(request: web.Request) -> Any:
    named = request.match_info
    return checked_service(f"{named['namespace']}/{named['name']}")


def _certificate(certificate: x509.Certificate) -> dict[str, str]:
    return {
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "subject": certificate.subject.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }
