"""A new key and the request for its certificate, from a process that ends: `python -m certs.new_request ID`.

A sidecar needs the X.509 library for this alone, for a moment an hour, and would keep its 10 MiB. It starts
this instead and reads key and request (PEM, one after the other) from a pipe: the key touches no disk and no
command line.
"""

from __future__ import annotations

import contextlib
import os
import sys

from certs.csr import csr_to_pem, make_csr
from certs.keys import generate_key, key_to_pem
from certs.spiffe import SpiffeId

__all__ = ["new_request"]


def new_request(spiffe_id: SpiffeId) -> tuple[bytes, str]:
    """The key and the request, both in PEM."""
    key = generate_key()
    return key_to_pem(key), csr_to_pem(make_csr(key, spiffe_id))


if __name__ == "__main__":
    key_pem, request = new_request(SpiffeId.parse(sys.argv[1]))
    with contextlib.suppress(BrokenPipeError):  # who asked has ended
        os.write(sys.stdout.fileno(), key_pem + request.encode("ascii"))
