"""`meshpy-proxy`.

The sidecar's door. Exit codes: 0 stopped as told, 1 not ready (healthcheck), 2 could not start.
"""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run a sidecar, or ask a running one for its health.

    An engine asks each sidecar every few seconds. What serves takes half a second of a core to import, so the
    question must not bring it along.
    """
    arguments = sys.argv[1:]
    if arguments[:1] == ["healthcheck"]:
        from proxy.healthcheck import is_ready  # noqa: PLC0415 - see above

        address, _, port = os.environ.get("MESHPY_ADMIN", "127.0.0.1:15000").rpartition(":")
        sys.exit(0 if is_ready(address, int(port)) else 1)
    from proxy.start import start  # noqa: PLC0415 - see above

    sys.exit(start(arguments))


if __name__ == "__main__":
    main()
