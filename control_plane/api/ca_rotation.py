"""`/v1/ca/…`: the steps of a CA that changes: signing request, next issuer, the phases of a rotation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.brought import brought_issuer, brought_key
from certs.errors import CertError
from certs.keys import generate_key, key_to_pem
from certs.rotation import CaState
from control_plane.api.body import check_members, json_body, member
from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.trust_schemas import (
    CA_ADVANCE,
    CA_EXPORT,
    CA_EXPORTED,
    CA_NEXT,
    CA_REQUESTED,
    CA_ROTATION,
)
from control_plane.errors import BadRequest, Conflict, Lagging
from control_plane.followers import Laggard
from control_plane.parts import Parts

__all__ = ["CaRotationRoutes"]

MAX_BODY = 256 * 1024
MIN_PASSPHRASE = 12
SHOWN = 100
"""Laggards that an answer lists; the count is of all."""


class CaRotationRoutes:
    """Handlers; every step is in the audit log before it is made."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        now = (200, "where the rotation stands", CA_ROTATION)
        csr = (200, "a signing request, PEM", CA_REQUESTED)
        copy = (200, "the CA; its key is encrypted", CA_EXPORTED)
        admin = Role.ADMIN
        return [
            Route("GET", "/v1/ca/rotation", self.show, Role.VIEWER, "Where a root rotation stands", now),
            Route("POST", "/v1/ca/request", self.request, admin, "A request for an intermediate", csr),
            Route("POST", "/v1/ca/next", self.next, admin, "Take the next issuer", now, body=CA_NEXT),
            Route("POST", "/v1/ca/advance", self.advance, admin, "The next phase", now, body=CA_ADVANCE),
            Route("POST", "/v1/ca/abort", self.abort, admin, "Give a rotation up", now),
            Route("DELETE", "/v1/ca/retired", self.forget, admin, "Forget retired roots", now),
            Route("POST", "/v1/ca/export", self.export, admin, "A backup", copy, body=CA_EXPORT),
        ]

    async def show(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        return self._answer()

    async def request(self, request: web.Request) -> web.Response:
        """The key is made here and stays here; asked again, the request is of the same key."""
        author = require(request, Role.ADMIN)
        state = self._state()
        if state.pending_key is None:
            await self._audit("ca-request", author)
            key = generate_key()
            state = await self._change(lambda held: held.with_request(key), author, "a signing request")
        pending = state.pending_key
        if pending is None:
            raise Conflict(self._number, self._number, "another request came first; ask again")
        return web.json_response({"csr": _request(pending, state.trust_domain)})

    async def next(self, request: web.Request) -> web.Response:
        author = require(request, Role.ADMIN)
        body = await json_body(request, MAX_BODY)
        check_members(body, "root", "chain", "key", "passphrase")
        state = self._state()
        key = _key(body, state.pending_key)
        root, chain = member(body, "root", str), member(body, "chain", str)
        try:
            new = brought_issuer(root.encode(), chain.encode(), key, state.trust_domain, datetime.now(UTC))
        except CertError as error:
            raise BadRequest(str(error)) from error
        await self._audit("ca-next", author, root=new.root.fingerprint(hashes.SHA256()).hex())
        await self._change(lambda held: held.begin(new), author, "the next issuer")
        return self._answer()

    async def advance(self, request: web.Request) -> web.Response:
        author = require(request, Role.ADMIN)
        body = await json_body(request, MAX_BODY)
        check_members(body, "from", "force")
        phase, force = member(body, "from", str), member(body, "force", list, [])
        state = self._state()
        if phase != str(state.phase):
            what = f"the rotation is {state.phase}, not {phase}; read it again"
            raise Conflict(self._number, self._number, what)
        lagging = [each for each in self._laggards() if each.name not in force]
        if lagging:
            raise Lagging([each.name for each in lagging], lagging[0].why)
        await self._audit("ca-advance", author, phase=phase, forced=", ".join(map(str, force)))
        await self._change(CaState.advance, author, f"advance from {phase}", self._number)
        return self._answer()

    async def abort(self, request: web.Request) -> web.Response:
        author = require(request, Role.ADMIN)
        await self._audit("ca-abort", author)
        await self._change(CaState.abort, author, "the rotation is given up")
        return self._answer()

    async def forget(self, request: web.Request) -> web.Response:
        author = require(request, Role.ADMIN)
        await self._audit("ca-forget", author)
        await self._change(CaState.forget_retired, author, "retired roots are forgotten")
        return self._answer()

    async def export(self, request: web.Request) -> web.Response:
        author = require(request, Role.ADMIN)
        body = await json_body(request, MAX_BODY)
        check_members(body, "passphrase")
        text = member(body, "passphrase", str)
        passphrase = text.encode("utf-8", "surrogatepass")
        if len(text) < MIN_PASSPHRASE:
            raise BadRequest(
                f"`passphrase` has at least {MIN_PASSPHRASE} characters: it is all that protects the key"
            )
        issuer = self._state().issuer
        await self._audit("ca-export", author)
        return web.json_response(
            {
                "trust_domain": self._state().trust_domain,
                "root": _pem((issuer.root,)),
                "chain": _pem(issuer.chain),
                "key": key_to_pem(issuer.key, passphrase).decode("ascii"),
            }
        )

    @property
    def _number(self) -> int:
        return self._parts.ca.number

    def _state(self) -> CaState:
        state = self._parts.signing.state
        if state is None:
            where = self._parts.signing.signer.describe()
            raise Conflict(0, 0, f"the CA is elsewhere ({where}): rotate it there; its roots are followed")
        return self._parts.ca.state

    def _laggards(self) -> list[Laggard]:
        return self._parts.followers.laggards()

    async def _audit(self, event: str, author: str, **facts: str) -> None:
        await self._parts.audit.write(event, author=author, **facts)

    async def _change(self, step: Any, author: str, why: str, expected: int | None = None) -> CaState:
        self._state()
        try:
            return await self._parts.ca.change(step, author=author, why=why, expected=expected)
        except CertError as error:
            raise Conflict(self._number, self._number, str(error)) from error

    def _answer(self) -> web.Response:
        state = self._state()
        ready, expected = self._parts.followers.counts()
        other = state.other.root if state.other is not None else None
        return web.json_response(
            {
                "phase": str(state.phase),
                "state": self._number,
                "bundle": state.bundle_id,
                "root": _fingerprint(state.issuer.root),
                "other": _fingerprint(other) if other is not None else None,
                "retired": [_fingerprint(each.root) for each in state.retired],
                "has_request": state.pending_key is not None,
                "ready": ready,
                "expected": expected,
                "waiting_for": [{"name": each.name, "why": each.why} for each in self._laggards()[:SHOWN]],
            }
        )


def _key(body: dict[str, Any], pending: ec.EllipticCurvePrivateKey | None) -> ec.EllipticCurvePrivateKey:
    """The key that came with the chain, or the one that its request was made of."""
    text = member(body, "key", str, "")
    if text:
        try:
            return brought_key(text.encode(), member(body, "passphrase", str, "").encode() or None)
        except CertError as error:
            raise BadRequest(str(error)) from error
    if pending is None:
        raise BadRequest("`key` is missing, and no signing request waits; POST /v1/ca/request first")
    return pending


def _request(key: ec.EllipticCurvePrivateKey, trust_domain: str) -> str:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _pem(certificates: tuple[x509.Certificate, ...]) -> str:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates).decode("ascii")
