"""What can go wrong in the control plane: one class per thing the caller would do differently about."""

from __future__ import annotations

from collections.abc import Sequence

from meshpy.errors import MeshpyError

__all__ = [
    "AttestationRefused",
    "BadRequest",
    "Conflict",
    "ControlPlaneError",
    "DiscoveryError",
    "Forbidden",
    "Lagging",
    "MisdirectedRequest",
    "NotFound",
    "PreconditionFailed",
    "RateLimited",
    "ReadOnly",
    "SignerError",
    "StartRefused",
    "StorageFull",
    "StoreError",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
]


class ControlPlaneError(MeshpyError):
    """A failure of the control plane that is told as it stands."""


class StartRefused(ControlPlaneError):  # noqa: N818 - a verdict, not a malfunction
    """A key, secret or state file is missing or damaged; nothing is invented in its place."""


class StoreError(ControlPlaneError):
    """The store could not be read or written; what was acknowledged before is untouched."""


class StorageFull(StoreError):  # noqa: N818 - named after its answer
    """No space is left; nothing was written."""


class ReadOnly(StoreError):  # noqa: N818 - named after its answer
    """Revisions come from a source that is changed elsewhere; the message says where."""


class Conflict(ControlPlaneError):  # noqa: N818 - named after its answer
    """The policies changed, or are changing, by someone else's hand.

    Args:
        newest: the revision that came first.
    """

    def __init__(self, expected: int, newest: int, message: str = "") -> None:
        self.expected = expected
        self.newest = newest
        super().__init__(
            message
            or f"revision {expected} was expected, the newest is {newest}; read it, merge and send again"
        )

    @classmethod
    def during_rollout(cls, number: int) -> Conflict:
        """Another change while the canary of `number` is under way."""
        message = f"a canary of revision {number} is under way; `meshpy rollout promote` or `abort` it first"
        return cls(number - 1, number, message)


class PreconditionFailed(Conflict):
    """As Conflict, where `If-Match` said what was expected (RFC 9110 §13.1.1)."""


class Lagging(Conflict):
    """A root rotation must not go on: these sidecars would be cut off.

    Args:
        names: as `force` takes them.
    """

    def __init__(self, names: Sequence[str], why: str) -> None:
        self.names = tuple(names)
        some = ", ".join(self.names[:5]) + (" …" if len(self.names) > 5 else "")
        super().__init__(0, 0, f"{len(self.names)} sidecar(s) lag: {some} ({why})")


class SignerError(ControlPlaneError):
    """A CA elsewhere could not be reached, refused, or gave something else than was asked for."""


class DiscoveryError(ControlPlaneError):
    """A source of services could not be read; the last view stays."""


class BadRequest(ControlPlaneError):  # noqa: N818 - named after its answer
    """The request's form is wrong."""


class TooLarge(BadRequest):
    """The request's body is larger than this route takes."""


class Unauthenticated(ControlPlaneError):  # noqa: N818 - named after its answer
    """No credential, or one that does not verify."""


class AttestationRefused(ControlPlaneError):  # noqa: N818 - named after its answer
    """The credential is right and the evidence that goes with it is missing.

    Args:
        evidence: which proof was missing, for the audit log.
    """

    def __init__(self, evidence: str, message: str) -> None:
        self.evidence = evidence
        super().__init__(message)


class Forbidden(ControlPlaneError):  # noqa: N818 - named after its answer
    """The caller is known and may not do this."""


class NotFound(ControlPlaneError):  # noqa: N818 - named after its answer
    """What was asked for does not exist."""


class RateLimited(ControlPlaneError):  # noqa: N818 - named after its answer
    """Too many requests from one address.

    Args:
        retry_after_s: when the next one is taken.
    """

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"too many requests from this address; try again in {retry_after_s:.1f} s")


class Unavailable(ControlPlaneError):  # noqa: N818 - named after its answer
    """It cannot be answered yet, and can be later."""


class MisdirectedRequest(ControlPlaneError):  # noqa: N818 - named after its answer
    """The Host header names another server (RFC 9110 §15.5.20); DNS rebinding looks like that."""
