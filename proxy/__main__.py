"""`meshpy-proxy`.

The sidecar's door. Exit codes: 0 stopped as told, 1 not ready (healthcheck), 2 could not start.
"""

from __future__ import annotations

import logging
import os
import sys

import uvloop

from meshpy.errors import MeshpyError
from proxy.app import serve
from proxy.options import Options, StaticOptions, read_options
from proxy.workers import run_workers

__all__ = ["main"]


def main() -> None:
    """Read how to start, and run."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["healthcheck"]:
        from proxy.healthcheck import is_ready  # noqa: PLC0415 - a sidecar needs no HTTP client library

        address, _, port = os.environ.get("MESHPY_ADMIN", "127.0.0.1:15000").rpartition(":")
        sys.exit(0 if is_ready(address, int(port)) else 1)
    try:
        options = read_options(arguments, os.environ)
    except MeshpyError as error:
        sys.stderr.write(f"meshpy-proxy: {error}\n")
        sys.exit(2)
    logging.basicConfig(
        level=options.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    sys.exit(_run(options))


def _run(options: Options) -> int:
    if options.workers > 1:
        if isinstance(options.source, StaticOptions):
            return run_workers(options.workers, lambda worker: uvloop.run(serve(options, worker)))
        logging.getLogger("meshpy.proxy").warning("one process: workers are for the static way")
    return uvloop.run(serve(options))


if __name__ == "__main__":
    main()
