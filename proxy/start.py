"""Start a sidecar: read how, and run it in one process or several."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import uvloop

from meshpy.errors import MeshpyError
from proxy.app import serve
from proxy.options import Options, StaticOptions, read_options
from proxy.workers import run_workers

__all__ = ["start"]


def start(arguments: Sequence[str]) -> int:
    """Run until it is told to stop; the exit code."""
    try:
        options = read_options(arguments, os.environ)
    except MeshpyError as error:
        sys.stderr.write(f"meshpy-proxy: {error}\n")
        return 2
    logging.basicConfig(
        level=options.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    return _run(options)


def _run(options: Options) -> int:
    if options.workers > 1:
        if isinstance(options.source, StaticOptions):
            return run_workers(options.workers, lambda ends: uvloop.run(serve(options, ends)))
        logging.getLogger("meshpy.proxy").warning("one process: workers are for the static way")
    return uvloop.run(serve(options))
