"""Ports for servers that must be told theirs. A server that can bind port 0 by itself needs none of these."""

import random
import socket

__all__ = ["free_port"]

# Below what Linux gives to outgoing connections and to port 0 (ip_local_port_range, 32768 on), so
# nobody takes the port between probe and server; above the ports that a mesh has by default.
_FIRST, _LAST = 20_480, 32_767
_TRIES = 100
_draw = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on and that this process gave to nobody before."""
    for _ in range(_TRIES):
        port = _draw.randint(_FIRST, _LAST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError(f"{_TRIES} ports between {_FIRST} and {_LAST} were tried, none was free")
