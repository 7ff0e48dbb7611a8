"""When the next certificate is asked for."""

from __future__ import annotations

from datetime import datetime, timedelta

from certs.identity import Identity

__all__ = ["BACKDATE_S", "renew_after_s", "renew_at"]

BACKDATE_S = 60
"""NotBefore lies this far in the past, so that a peer whose clock is behind still accepts the leaf."""


def renew_at(identity: Identity, jitter: float) -> datetime:
    """When to ask for the next certificate: at 45 to 55 % of the time the holder has had it for.

    Args:
        jitter: 0 <= jitter < 1, drawn once per certificate, so that a thousand sidecars do not ask at once.
    """
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter is 0 or more and less than 1, not {jitter}")
    issued = identity.not_before + timedelta(seconds=BACKDATE_S)
    # A foreign issuer may not backdate: a leaf shorter than the cushion counts from its NotBefore.
    start = issued if issued < identity.not_after else identity.not_before
    return start + (identity.not_after - start) * (0.45 + jitter / 10)


def renew_after_s(identity: Identity, now: datetime, jitter: float) -> float:
    """Seconds from the moment a certificate was issued until the next is asked for; at least one.

    They are counted from now and not read from a clock, so a clock that is behind the issuer's changes
    nothing; one that is ahead sees less left, and asks at about half of that.

    Args:
        now: when it came.
        jitter: as for `renew_at`.
    """
    whole = (renew_at(identity, jitter) - identity.not_before).total_seconds() - BACKDATE_S
    left = (identity.not_after - now).total_seconds() / 2
    return max(1.0, min(whole if whole > 0 else left, left * 1.1))
