"""The CA's state while one root takes over from another: A, then A and B, then B. Pure.

    steady(A) --begin(B)--> trusting(A+B, A signs) --advance--> issuing(A+B, B signs) --advance--> steady(B)
                                └──abort──> steady(A)

Whoever advances has seen that nobody is left behind: before `issuing` every peer believes in B, before
`steady` every peer has a certificate under B. A state is one value that is stored whole: a rotation that is
interrupted anywhere goes on from the state it left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.ca import CertificateAuthority
from certs.certificates import certificates_from_pem
from certs.errors import CertError
from certs.keys import key_from_pem, key_to_pem

__all__ = ["CaState", "Issuer", "Phase"]

MAX_RETIRED = 4


class Phase(StrEnum):
    """Where a rotation stands."""

    STEADY = "steady"
    TRUSTING = "trusting"
    ISSUING = "issuing"


@dataclass(frozen=True, slots=True)
class Issuer:
    """A root, what it signed down to the certificate that signs leaves, and the key of that.

    Args:
        chain: the certificate that signs leaves, then those above it, without the root.
    """

    root: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def key_id(self) -> str:
        """What leaves name as their issuer's key (RFC 5280 §4.2.1.1), hex."""
        return x509.SubjectKeyIdentifier.from_public_key(self.chain[0].public_key()).digest.hex()

    def authority(self, trust_domain: str, others: tuple[x509.Certificate, ...]) -> CertificateAuthority:
        """As the authority of a trust domain.

        Raises:
            CertError: the parts do not belong together.
        """
        return CertificateAuthority(
            trust_domain, self.root, self.chain[0], self.key, others, above=self.chain[1:]
        )


@dataclass(frozen=True, slots=True)
class CaState:
    """Args:
    other: the root that is believed in besides the issuer's, during a rotation.
    retired: issuers of roots that are believed in no more; newest first. By them the control plane
        still proves itself to those who have only the old root, until their certificates end.
    pending_key: of a signing request that waits for its certificate.
    extra: roots that the operator listed besides; they stay.
    """

    trust_domain: str
    issuer: Issuer
    phase: Phase = Phase.STEADY
    other: Issuer | None = None
    retired: tuple[Issuer, ...] = ()
    pending_key: ec.EllipticCurvePrivateKey | None = field(default=None, repr=False)
    extra: tuple[x509.Certificate, ...] = ()

    @classmethod
    def of(cls, authority: CertificateAuthority) -> CaState:
        """The state that files hold."""
        issuer = Issuer(
            authority.root, (authority.intermediate, *authority.above), authority.intermediate_key
        )
        return cls(authority.trust_domain, issuer, extra=authority.other_roots)

    @property
    def authority(self) -> CertificateAuthority:
        """What signs now, with every root that is believed in."""
        others = (self.other.root,) if self.other is not None else ()
        return self.issuer.authority(self.trust_domain, (*others, *self.extra))

    @property
    def bundle_id(self) -> str:
        """A short name of the set of roots, the same wherever it is made."""
        return self.authority.bundle.id

    def with_request(self, key: ec.EllipticCurvePrivateKey) -> CaState:
        """Keep the key of a signing request."""
        return replace(self, pending_key=key)

    def begin(self, new: Issuer) -> CaState:
        """Let `new` sign: at once under the same root, else after everybody believes in its root.

        Raises:
            CertError: another rotation is under way.
        """
        if self.phase is not Phase.STEADY:
            raise CertError(f"a rotation is under way ({self.phase}); finish it with `meshpy ca rotate`")
        if new.root == self.issuer.root:
            return replace(self, issuer=new, pending_key=None)
        return replace(self, phase=Phase.TRUSTING, other=new, pending_key=None)

    def advance(self) -> CaState:
        """The next phase.

        Raises:
            CertError: no rotation is under way.
        """
        if self.other is None:
            raise CertError("no rotation is under way")
        if self.phase is Phase.TRUSTING:
            return replace(self, phase=Phase.ISSUING, issuer=self.other, other=self.issuer)
        extra = tuple(root for root in self.extra if root != self.other.root)
        retired = (self.other, *self.retired)[:MAX_RETIRED]
        return replace(self, phase=Phase.STEADY, other=None, retired=retired, extra=extra)

    def abort(self) -> CaState:
        """Give up a rotation before anything was signed under the new root.

        Raises:
            CertError: none is under way, or it is too late.
        """
        if self.phase is not Phase.TRUSTING:
            raise CertError(f"only a rotation that is `trusting` can be given up; this is {self.phase}")
        return replace(self, phase=Phase.STEADY, other=None)

    def forget_retired(self) -> CaState:
        """Prove ourselves by retired roots no more: for a root whose key was stolen."""
        return replace(self, retired=())

    def to_json(self, passphrase: bytes) -> str:
        """As text; every key in it is encrypted."""
        return json.dumps(
            {
                "trust_domain": self.trust_domain,
                "phase": str(self.phase),
                "issuer": _issuer_out(self.issuer, passphrase),
                "other": _issuer_out(self.other, passphrase) if self.other is not None else None,
                "retired": [_issuer_out(each, passphrase) for each in self.retired],
                "pending_key": key_to_pem(self.pending_key, passphrase).decode()
                if self.pending_key is not None
                else None,
                "extra": _pem(self.extra),
            }
        )

    @classmethod
    def from_json(cls, text: str, passphrase: bytes) -> CaState:
        """The inverse of `to_json`.

        Raises:
            CertError: it is damaged, or encrypted with another passphrase.
        """
        try:
            said = json.loads(text)
            pending, extra = said["pending_key"], said["extra"]
            return cls(
                said["trust_domain"],
                _issuer_in(said["issuer"], passphrase),
                Phase(said["phase"]),
                _issuer_in(said["other"], passphrase) if said["other"] is not None else None,
                tuple(_issuer_in(each, passphrase) for each in said["retired"]),
                key_from_pem(pending.encode(), passphrase) if pending is not None else None,
                certificates_from_pem(extra.encode()) if extra else (),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CertError(f"the stored state of the CA is damaged: {error}") from error


def _issuer_out(issuer: Issuer, passphrase: bytes) -> dict[str, str]:
    key = key_to_pem(issuer.key, passphrase).decode()
    return {"root": _pem((issuer.root,)), "chain": _pem(issuer.chain), "key": key}


def _issuer_in(said: Mapping[str, Any], passphrase: bytes) -> Issuer:
    root = certificates_from_pem(said["root"].encode())[0]
    return Issuer(
        root, certificates_from_pem(said["chain"].encode()), key_from_pem(said["key"].encode(), passphrase)
    )


def _pem(certificates: tuple[x509.Certificate, ...]) -> str:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates).decode()
