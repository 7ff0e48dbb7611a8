"""Whatever a request asks for, the authority refuses it or signs the attested identity, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from certs.csr import checked_public_key
from certs.errors import CsrRefused
from tests.helpers.hostile_csrs import ATTESTED, KEY, HostileCsr, flipped, flipped_then_signed, hostile_csrs
from tests.helpers.issued import assert_fixed_profile
from tests.helpers.pki import MeshPki, mesh_pki

NOW = datetime(2026, 11, 24, 5, 0, 0, 250_000, tzinfo=UTC)
VECTORS: tuple[HostileCsr, ...] = tuple(hostile_csrs())


@cache
def pki() -> MeshPki:
    return mesh_pki(now=NOW)


def verdict(csr: bytes) -> str:
    """`refused` or `issued`; a wrong certificate or any other exception is neither and ends the test."""
    authority = pki().ca
    try:
        issued = authority.issue(csr, ATTESTED, NOW)
    except CsrRefused as error:
        return told(str(error))
    assert_fixed_profile(issued, authority, KEY.public_key(), ATTESTED, NOW)
    return "issued"


def told(text: str) -> str:
    """A refusal may be told to the caller and is logged: one line, of bounded length."""
    assert text.isprintable()
    assert len(text) < 1000
    return "refused"


def counted(requests: Iterable[bytes]) -> Counter[str]:
    """Verdicts, with a wrong issuance counted instead of raised."""
    count: Counter[str] = Counter()
    for csr in requests:
        try:
            count[verdict(csr)] += 1
        except AssertionError:
            count["wrong"] += 1
    return count


def test_the_set_is_wide_and_its_names_are_unique() -> None:
    assert len(VECTORS) >= 120
    assert len({each.name for each in VECTORS}) == len(VECTORS)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: each.name)
def test_a_hostile_request_gets_its_verdict(vector: HostileCsr) -> None:
    assert verdict(vector.csr) == ("refused" if vector.is_refused else "issued")


def test_no_hostile_request_is_ever_signed_wrongly() -> None:
    count = counted(each.csr for each in VECTORS)
    assert count["wrong"] == 0
    assert count["refused"] + count["issued"] == len(VECTORS)


def test_a_damaged_request_is_refused_and_raises_nothing_else() -> None:
    """Damage outside the signed part may leave a good request (PEM white space); it is rare."""
    count = counted(flipped(1500, seed=115))
    assert count["wrong"] == 0
    assert count["refused"] > 1400


def test_a_damaged_request_that_its_sender_signed_is_never_signed_wrongly() -> None:
    """Here the parsers of names and extensions see the damage: both verdicts occur, a wrong one never."""
    count = counted(flipped_then_signed(1500, seed=119))
    assert count["wrong"] == 0
    assert count["refused"] > 500
    assert count["issued"] > 50


LIBRARY = Path(__file__).parents[2] / "build/vectors/cryptography_vectors/x509/requests"


@pytest.mark.skipif(
    not LIBRARY.is_dir(), reason="no vectors: pip install --target build/vectors cryptography_vectors"
)
def test_the_requests_of_the_librarys_own_vectors_are_refused_or_keep_to_the_profile() -> None:
    """RSA, DSA, MD4, SHA-1, damaged, doubled and unknown extensions, attributes of every form."""
    authority, issued = pki().ca, []
    files = sorted(LIBRARY.iterdir())
    for file in files:
        csr = file.read_bytes()
        if verdict_of(csr) == "issued":
            key = checked_public_key(csr)
            assert_fixed_profile(authority.issue(csr, ATTESTED, NOW), authority, key, ATTESTED, NOW)
            issued.append(file.name)
    assert len(files) > 20
    assert all(name.startswith(("ec_", "challenge", "long-form", "zero-element")) for name in issued), issued


def verdict_of(csr: bytes) -> str:
    try:
        pki().ca.issue(csr, ATTESTED, NOW)
    except CsrRefused as error:
        return told(str(error))
    return "issued"
