"""A new key and the request for its certificate, from a process that ends (`certs.new_request`)."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import dataclass, field

from certs.spiffe import SpiffeId

__all__ = ["NewRequest", "new_request"]

_log = logging.getLogger("meshpy.proxy")

_MODULE = "certs.new_request"
_TIMEOUT_S = 30.0
_REQUEST = b"-----BEGIN CERTIFICATE REQUEST-----"


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A key without a certificate, and the request for one.

    Args:
        key_pem: PKCS #8.
        csr: in PEM.
    """

    key_pem: bytes = field(repr=False)
    csr: str


async def new_request(spiffe_id: SpiffeId) -> NewRequest:
    """Make both.

    Where no process can be started, or it fails, they are made here, and the library stays in memory.
    """
    try:
        key_pem, begin, rest = (await _made_apart(spiffe_id)).partition(_REQUEST)
        return NewRequest(key_pem, (begin + rest).decode("ascii"))
    except (OSError, TimeoutError) as error:
        why = str(error) or f"it took more than {_TIMEOUT_S:g} s"
        _log.warning("no process makes the key, so it is made in this one: %s", why)
    from certs.new_request import new_request as made_here  # noqa: PLC0415 - see there

    return NewRequest(*await asyncio.to_thread(made_here, spiffe_id))


async def _made_apart(spiffe_id: SpiffeId) -> bytes:
    """What the process writes.

    Raises:
        OSError, TimeoutError: it cannot be started, fails (and tells on our stderr why), or takes too long.
    """
    # It finds what we find, wherever that is, and nothing of the folder in which it is started.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = (sys.executable, "-P", "-m", _MODULE, str(spiffe_id))
    starting = asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, env=environment)
    started = asyncio.get_running_loop().create_task(starting)
    try:
        child = await asyncio.shield(started)
        async with asyncio.timeout(_TIMEOUT_S):
            made, _ = await child.communicate()
    finally:
        await _end(started)
    if child.returncode != 0:
        raise ChildProcessError(f"{_MODULE} ended with {child.returncode}")
    return made


async def _end(started: asyncio.Task[Process]) -> None:
    """Whoever is told to stop may be so while the process is being started: it ends nevertheless."""
    with suppress(OSError):
        child = await started
        if child.returncode is None:
            child.kill()
            await child.communicate()  # until its pipe has ended too
