"""What atheris is given (tests/fuzz) holds for its seeds and for seeds that were spoiled."""

import random

import pytest

from tests.fuzz.targets import SEEDS, TARGETS


def spoiled(draw, data):
    out = bytearray(data)
    for _ in range(draw.randrange(6)):
        at = draw.randrange(len(out) + 1)
        out[at : at + draw.randrange(4)] = draw.randbytes(draw.randrange(4))
    return bytes(out)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_for_its_seeds_and_what_is_near_them(name):
    draw = random.Random(name)
    for seed in SEEDS[name]:
        for _ in range(60):
            cut = draw.randbytes(2) if name not in ("bridge", "hpack") else b""
            TARGETS[name](cut + spoiled(draw, seed))
