"""The door of `meshpy-control-plane`: the plain health check by itself, everything else with all that serves.

An engine asks for health every few seconds; what serves takes a second of a core to import.
"""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Ask for health as the environment says, or run the command line."""
    if sys.argv[1:] == ["healthcheck"]:
        from control_plane.readiness import is_ready  # noqa: PLC0415 - see above

        host, _, port = os.environ.get("MESHPY_OPERATOR_LISTEN", "0.0.0.0:15014").rpartition(":")
        if port.isdecimal():  # anything else gets its message from the command line's own reader
            is_tls = os.environ.get("MESHPY_OPERATOR_TLS", "on") == "on"
            sys.exit(0 if is_ready(host.strip("[]"), int(port), is_tls=is_tls) else 1)
    from control_plane.__main__ import main as command_line  # noqa: PLC0415 - see above

    command_line()
