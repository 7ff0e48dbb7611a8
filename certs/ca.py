"""The certificate authority: a value that signs leaves for attested identities of its trust domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.bundle import TrustBundle
from certs.csr import check_csr
from certs.errors import CertError, CsrRefused
from certs.keys import generate_key, same_public_key
from certs.profile import LEAF_TTL_S, MAX_LEAF_TTL_S, build_intermediate, build_leaf, build_root
from certs.spiffe import SpiffeId

__all__ = ["CertificateAuthority", "IssuedCertificate"]

_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A signed leaf.

    Args:
        chain_pem: the leaf, then the intermediate, as a TLS peer sends them.
    """

    chain_pem: bytes
    spiffe_id: SpiffeId
    not_before: datetime
    not_after: datetime
    serial: int


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """An intermediate with its key, its root, and other roots that are believed in during a rotation.

    Args:
        above: certificates between the intermediate and the root, the lowest first; ours has none.

    Invariants: each was signed by the next, `intermediate_key` is the key of the lowest; the root's key is
    not here.

    Raises:
        CertError: on construction, if the parts do not belong together.
    """

    trust_domain: str
    root: x509.Certificate
    intermediate: x509.Certificate
    intermediate_key: ec.EllipticCurvePrivateKey = field(repr=False)
    other_roots: tuple[x509.Certificate, ...] = ()
    above: tuple[x509.Certificate, ...] = ()

    def __post_init__(self) -> None:
        if not same_public_key(self.intermediate.public_key(), self.intermediate_key.public_key()):
            raise CertError("the intermediate's key does not belong to its certificate")
        chain = (self.intermediate, *self.above, self.root)
        for lower, upper in pairwise(chain):
            try:
                lower.verify_directly_issued_by(upper)
            except (ValueError, TypeError, InvalidSignature) as error:
                what = "root" if upper is self.root else "certificate above it"
                raise CertError(f"the intermediate certificate was not signed by the {what}") from error
        # What was brought along may carry no SPIFFE ID (X509-SVID §4.2 demands none).
        own = f"spiffe://{self.trust_domain}"
        if any(_uris(each) not in ([], [own]) for each in chain):
            raise CertError(f"the CA certificates are not of the trust domain {self.trust_domain}")

    @classmethod
    def create(cls, trust_domain: str, now: datetime) -> tuple[Self, ec.EllipticCurvePrivateKey]:
        """A new root and intermediate; the root's key is returned apart, so that it can be taken offline."""
        root_key = generate_key()
        root = build_root(root_key, trust_domain, now=now, serial=x509.random_serial_number())
        key = generate_key()
        serial = x509.random_serial_number()
        intermediate = build_intermediate(
            key.public_key(), trust_domain, root, root_key, now=now, serial=serial
        )
        return cls(trust_domain, root, intermediate, key), root_key

    @property
    def bundle(self) -> TrustBundle:
        """What peers must believe in to accept this authority's leaves: its own root first."""
        return TrustBundle.of(self.trust_domain, (self.root, *self.other_roots))

    def issue(
        self,
        csr: bytes,
        attested: SpiffeId,
        now: datetime,
        ttl_s: int = LEAF_TTL_S,
        hosts: Sequence[str] = (),
    ) -> IssuedCertificate:
        """Sign a leaf for the attested identity with the key of the request.

        Args:
            csr: PEM or DER; only its key is used.
            ttl_s: 1 to 86,400; cut where the intermediate ends.
            hosts: DNS names that stand beside the identity; nothing that the request asks for.

        Raises:
            CsrRefused: the request is bad, or the identity is not a workload of this trust domain.
            CertError: the intermediate is not valid at `now`, or `ttl_s` is out of range.
        """
        if attested.trust_domain != self.trust_domain or not attested.path:
            raise CsrRefused(f"{attested} is not a workload of the trust domain {self.trust_domain}")
        if not 1 <= ttl_s <= MAX_LEAF_TTL_S:
            raise CertError(f"a leaf lives 1 to {MAX_LEAF_TTL_S} seconds, not {ttl_s}")
        if not self.intermediate.not_valid_before_utc <= now < self.intermediate.not_valid_after_utc:
            raise CertError(_why_not_valid(self.intermediate, now))
        leaf = build_leaf(
            check_csr(csr, attested),
            attested,
            self.intermediate,
            self.intermediate_key,
            now=now,
            ttl_s=ttl_s,
            serial=x509.random_serial_number(),
            hosts=hosts,
        )
        sent = (leaf, self.intermediate, *self.above)
        chain = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in sent)
        return IssuedCertificate(
            chain, attested, leaf.not_valid_before_utc, leaf.not_valid_after_utc, leaf.serial_number
        )

    def with_next_intermediate(
        self, root_key: ec.EllipticCurvePrivateKey, now: datetime
    ) -> CertificateAuthority:
        """The same root with a fresh intermediate: a yearly task, invisible to peers.

        Raises:
            CertError: `root_key` is not the key of this root.
        """
        if not same_public_key(root_key.public_key(), self.root.public_key()):
            raise CertError("this is not the key of the root")
        key = generate_key()
        serial = x509.random_serial_number()
        intermediate = build_intermediate(
            key.public_key(), self.trust_domain, self.root, root_key, now=now, serial=serial
        )
        return replace(self, intermediate=intermediate, intermediate_key=key, above=())


def _why_not_valid(intermediate: x509.Certificate, now: datetime) -> str:
    if now < (begin := intermediate.not_valid_before_utc):
        return (
            f"the intermediate is not valid before {begin:{_TIME}}: is the clock right? it says {now:{_TIME}}"
        )
    end = intermediate.not_valid_after_utc
    return f"the intermediate ended at {end:{_TIME}}; see Disaster in docs/operations.md"


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return []
    return san.get_values_for_type(x509.UniformResourceIdentifier)
