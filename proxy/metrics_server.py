"""Metrics for a Prometheus that is not on this machine: that one page, and nothing of the admin server."""

from __future__ import annotations

import asyncio
import logging

from proxy.admin import Admin
from proxy.net.addresses import AddressError
from proxy.sidecar import Sidecar

__all__ = ["MetricsServer", "serve_metrics"]

_log = logging.getLogger("meshpy.proxy")

_LOOK_S = 0.5


class MetricsServer(Admin):
    """One connection. Any name may lead here: there is nothing a page in a browser could read but figures."""

    def __init__(self, sidecar: Sidecar) -> None:
        super().__init__(sidecar)
        self._routes = {"/metrics": self._routes["/metrics"]}
        self._is_for_all = True


async def serve_metrics(sidecar: Sidecar, bind: str, port: int) -> None:
    """Serve until cancelled.

    Args:
        bind: an address, or the name of a network, on which the own address is known after enrolment.
    """
    loop = asyncio.get_running_loop()
    server = None
    while server is None:
        try:
            server = await loop.create_server(
                lambda: MetricsServer(sidecar), sidecar.addresses.resolve(bind), port
            )
        except AddressError:
            await asyncio.sleep(_LOOK_S)
        except OSError as error:
            _log.error("MESHPY_METRICS %s:%d: %s", bind, port, error.strerror)
            return
    async with server:
        await server.serve_forever()
