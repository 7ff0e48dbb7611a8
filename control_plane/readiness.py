"""Whether the control plane on this machine is ready: what an engine asks often, so cheaply."""

from __future__ import annotations

import http.client
import ssl
import sys

__all__ = ["is_ready"]

HEALTH_S = 2.0


def is_ready(host: str, port: int, *, is_tls: bool) -> bool:
    """Whether `/readyz` answers 200; what it says is printed, for the engine's record of health."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection: http.client.HTTPConnection
    if is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # it asks whether anybody answers, and sends no secret
        connection = http.client.HTTPSConnection(host, port, timeout=HEALTH_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=HEALTH_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"no answer from {host}:{port}: {error}\n")
        return False
    finally:
        connection.close()
    sys.stdout.write(text.strip() + "\n")
    return answer.status == 200
