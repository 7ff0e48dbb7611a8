"""Which requests may be passed on to a CA elsewhere: those that ask for the attested identity alone."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.csr import check_csr
from certs.errors import CsrRefused
from certs.spiffe import SpiffeId

__all__ = ["plain_request"]


def plain_request(csr: bytes, attested: SpiffeId) -> bytes:
    """The request as DER, when all it says is a key and the attested URI.

    A CA elsewhere may copy what a request asks for, which ours never does; so more is not passed on.

    Raises:
        CsrRefused: it is bad, or says more.
    """
    check_csr(csr, attested)
    is_pem = csr.lstrip()[:5] == b"-----"
    request = x509.load_pem_x509_csr(csr) if is_pem else x509.load_der_x509_csr(csr)
    wanted = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(attested))])
    found = [extension.value for extension in request.extensions]
    if found != [wanted] or len(request.subject) or len(list(request.attributes)) > 1:
        raise CsrRefused(
            f"the CA is elsewhere: a request may name {attested} as its only URI, and nothing else"
        )
    return request.public_bytes(Encoding.DER)
