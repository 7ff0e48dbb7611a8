"""The refusals of the identity package: one class per thing a caller would do differently about."""

from __future__ import annotations

__all__ = ["CertError", "CsrRefused", "KeyRefused", "PeerRefused", "SpiffeIdError", "StoreError"]


class CertError(Exception):
    """Anything this package refuses."""


class SpiffeIdError(CertError, ValueError):
    """A text is no SPIFFE ID (SPIFFE-ID §2)."""


class KeyRefused(CertError):  # noqa: N818 - a verdict, not a malfunction
    """A private key cannot be read, or is of another kind."""


class CsrRefused(CertError):  # noqa: N818 - a verdict, not a malfunction
    """A certificate signing request is not signed; the text says why and may be told to the caller."""


class PeerRefused(CertError):  # noqa: N818 - a verdict, not a malfunction
    """A peer's certificate is no SVID that may speak here.

    Args:
        reason: a short kebab-case code from a closed set, fit for logs and metric labels.
        message: what was found, for a human.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        self.reason = reason
        super().__init__(f"{reason}: {message}" if message else reason)


class StoreError(CertError):
    """Keys or certificates on disk are missing, damaged or do not belong together; the file is named."""
