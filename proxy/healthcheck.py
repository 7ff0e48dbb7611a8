"""`meshpy-proxy healthcheck`: asks the admin server of the same container whether the sidecar serves."""

from __future__ import annotations

import http.client

__all__ = ["is_ready"]


def is_ready(address: str, port: int, timeout_s: float = 2.0) -> bool:
    """Whether `/readyz` answers 200."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz", headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
