"""`meshpy-proxy healthcheck`: asks the admin server of the same container whether the sidecar serves."""

from __future__ import annotations

import http.client
import sys

__all__ = ["is_ready"]


def is_ready(address: str, port: int, timeout_s: float = 2.0) -> bool:
    """Whether `/readyz` answers 200; what it says is printed, for the engine's record of health."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz", headers={"Host": "localhost"})
        answer = connection.getresponse()
        status, text = answer.status, answer.read().decode("utf-8", "replace")
    except OSError as error:
        status, text = 0, f"no answer from {address}:{port}: {error}\n"
    finally:
        connection.close()
    sys.stdout.write(text)
    return status == 200
