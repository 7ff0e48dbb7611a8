"""Whether a peer may speak: its certificate is an X509-SVID of the trust domain, in force and not cut off.

The handshake has verified the chain by then. Certificates of the plainest form are read here (`plain`), any
other by the library (`svid`), imported when the first comes: it would be a fifth of a sidecar's memory.
Pure: DER bytes and `now` come in.
"""

from __future__ import annotations

from datetime import datetime

from certs.errors import PeerRefused
from certs.plain import read_plain
from certs.spiffe import SpiffeId

__all__ = ["check_dates", "validate_leaf"]

_READ_LIMIT = 1024
_read: dict[bytes, tuple[datetime, datetime, SpiffeId]] = {}
"""From when, until when and whose: of leaves that passed every rule that hangs on their bytes alone. A peer
opens many connections with one."""


def validate_leaf(
    der: bytes, trust_domain: str, now: datetime, *, denied: frozenset[str] = frozenset()
) -> SpiffeId:
    """The identity of a leaf whose chain the TLS handshake has verified.

    Args:
        denied: SPIFFE IDs (`spiffe://…`) that are cut off although their certificates are still valid.

    Raises:
        PeerRefused: any rule is broken.
    """
    known = _read.get(der)
    if known is None:
        known = _read_leaf(der)
        if len(_read) >= _READ_LIMIT:
            _read.clear()
        _read[der] = known
    not_before, not_after, spiffe_id = known
    check_dates(not_before, not_after, now)
    if spiffe_id.trust_domain != trust_domain:
        raise PeerRefused("wrong-trust-domain", f"{spiffe_id} is not of {trust_domain}")
    if not spiffe_id.path:
        raise PeerRefused("no-workload-path", f"{spiffe_id} names a trust domain, not a workload")
    if str(spiffe_id) in denied:
        raise PeerRefused("denied", f"{spiffe_id} is cut off")
    return spiffe_id


def _read_leaf(der: bytes) -> tuple[datetime, datetime, SpiffeId]:
    plain = read_plain(der)
    if plain is not None and plain.svid is not None:
        return plain.not_before, plain.not_after, plain.svid
    from certs.svid import read_leaf  # noqa: PLC0415 - see above

    return read_leaf(der)


def check_dates(not_before: datetime, not_after: datetime, now: datetime) -> None:
    """Raises:
    PeerRefused: `now` lies outside.
    """
    if now < not_before:
        raise PeerRefused(
            "not-yet-valid", f"valid from {not_before:%Y-%m-%dT%H:%M:%SZ}, it is {now:%Y-%m-%dT%H:%M:%SZ}"
        )
    if now > not_after:
        raise PeerRefused(
            "expired", f"valid until {not_after:%Y-%m-%dT%H:%M:%SZ}, it is {now:%Y-%m-%dT%H:%M:%SZ}"
        )
