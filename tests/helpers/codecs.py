"""The two ways of reading and joining heads: both must pass every table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.http import encode, head
from proxy.http.native import codec

__all__ = ["CODECS", "using"]

CODECS = ("python",) if codec is None else ("python", "compiled")
"""`compiled` only where it was built."""


@contextmanager
def using(kind: str) -> Iterator[None]:
    """Have the parsers and encoders use one of CODECS."""
    with pytest.MonkeyPatch.context() as patch:
        if kind == "python":
            patch.setattr(head, "codec", None)
            patch.setattr(encode, "join", encode.join_in_python)
        yield
