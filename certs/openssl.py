"""Certificates and keys that are in memory, given to OpenSSL, which reads them from files."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

__all__ = ["is_pair", "load_pair"]


def load_pair(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    """Have `context` present this chain.

    Args:
        key_pem: not encrypted.

    Raises:
        ssl.SSLError: OpenSSL refuses one of them, or they do not belong together.
    """
    with _nameable(chain_pem) as chain, _nameable(key_pem) as key:
        context.load_cert_chain(chain, key)


def is_pair(chain_pem: bytes, key_pem: bytes) -> bool:
    """Whether this is the key of the first certificate, and OpenSSL can read all of it."""
    try:
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chain_pem, key_pem)
    except ssl.SSLError:
        return False
    return True


@contextmanager
def _nameable(data: bytes) -> Iterator[str]:
    """A path under which OpenSSL can read `data`, in memory: a key must not touch a disk.

    Where memory files or /proc are barred: a 0600 file in a directory of its own, removed at once.
    """
    with ExitStack() as undo:
        try:
            descriptor = os.memfd_create("meshpy", os.MFD_CLOEXEC)
        except OSError:
            descriptor = -1
        else:
            undo.callback(os.close, descriptor)
        path = Path(f"/proc/self/fd/{descriptor}")
        if descriptor < 0 or not os.access(path, os.W_OK):
            import tempfile  # noqa: PLC0415 - a mebibyte of a sidecar, for hosts that bar memory files

            path = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="meshpy-"))) / "pem"
            path.touch(mode=0o600)
        path.write_bytes(data)
        yield str(path)
