"""A dashboard for a browser that blocks: the mesh runs on a loop in a thread, the bridge serves its page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

from meshpy.cli.dashboard import bridge
from meshpy.client import Context, Operator
from tests.helpers.control_plane import ADMIN

Link = tuple[str, str]
"""The page's address and the token that it must be shown."""


@contextmanager
def bridged(url: str) -> Iterator[Link]:
    """`meshpy dashboard` before the operator API at `url`."""
    server, token = bridge(Operator(Context(url=url, token=ADMIN)), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dashboard/", token
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def in_a_thread(
    serve: Callable[[list[Link], threading.Event], Coroutine[object, object, None]],
) -> Iterator[Link]:
    """Run `serve(ready, stop)`, which puts its link into `ready` and ends once `stop` is set."""
    ready: list[Link] = []
    stop = threading.Event()

    def run() -> None:
        try:
            asyncio.run(serve(ready, stop))
        except BaseException:
            if not stop.is_set():
                raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while not ready:
            assert thread.is_alive()
            stop.wait(0.05)
        yield ready[0]
    finally:
        stop.set()
        thread.join(20)
