"""Assembly of one process: sidecar, admin server, where configuration comes from, signals, the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys

from meshpy.errors import MeshpyError
from meshpy.model.names import ServiceName
from proxy import static
from proxy.access_log import AccessLog
from proxy.admin import Admin
from proxy.listeners import MESH_DEFAULT
from proxy.metrics_server import serve_metrics
from proxy.net.addresses import Addresses
from proxy.options import Options, StaticOptions
from proxy.siblings import ALONE, Ends, listen, tell
from proxy.sidecar import Sidecar

__all__ = ["calm_interpreter", "serve"]

_LARGE_BLOCK_BYTES = 1 << 20
_SWITCH_S = 0.0002

_log = logging.getLogger("meshpy.proxy")


async def serve(options: Options, ends: Ends = ALONE) -> int:
    """Run until SIGTERM or SIGINT; the exit code.

    Args:
        ends: which of several workers this is; the first or only one has the admin server.
    """
    loop = asyncio.get_running_loop()
    try:
        log, flows = (AccessLog.open(each) for each in (options.access_log, options.flow_log))
    except OSError as error:
        _log.error("the log %s: %s", error.filename, error.strerror)
        return 2
    sidecar = Sidecar(
        access_log=log,
        addresses=Addresses(options.binds),
        mesh_bind=options.mesh_bind or MESH_DEFAULT,
        is_shared=options.workers > 1,
        node=options.node,
        sampling_pct=options.sampling_pct,
        slow_s=options.slow_s,
        limits=options.limits,
        log_options=options.log,
        flow_log=flows,
        recent=options.recent,
        workers=options.workers,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        admin = await loop.create_server(lambda: Admin(sidecar), *options.admin) if ends.number == 0 else None
    except OSError as error:
        _log.error("--admin %s:%d: %s", *options.admin, error.strerror)
        return 2
    try:
        return await _run(sidecar, options, stop, ends)
    finally:
        if admin is not None:
            admin.close()
        await sidecar.close()


async def _run(sidecar: Sidecar, options: Options, stop: asyncio.Event, ends: Ends) -> int:
    async with asyncio.TaskGroup() as group:
        background = [group.create_task(sidecar.run())]
        source = options.source
        if ends.heard:
            background.append(group.create_task(listen(ends, sidecar.others)))
        elif ends.number:
            background.append(group.create_task(tell(ends, sidecar.telemetry)))
        if options.metrics is not None and ends.number == 0:
            background.append(group.create_task(serve_metrics(sidecar, *options.metrics)))
        otlp = options.otlp
        if otlp.traces is not None or otlp.metrics is not None:
            background += _start_export(group, sidecar, options)
        if isinstance(source, StaticOptions):
            try:
                await static.load(sidecar, source)
            except MeshpyError as error:
                _log.error("%s", error)
                background[0].cancel()
                return 2
            hangups = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangups.set)
            background.append(group.create_task(_reload_at(hangups, sidecar, source)))
        else:
            # Static sidecars do without the HTTP client library, a third of the memory.
            from proxy.control_client import ControlClient  # noqa: PLC0415

            client = ControlClient(sidecar, source, options.mesh_bind)
            background.append(group.create_task(client.run()))
        if options.forward is not None:
            from proxy.forward_proxy import ForwardProxy  # noqa: PLC0415 - few sidecars have one

            background.append(group.create_task(ForwardProxy(sidecar, options.forward).run()))
        _calm_allocator()
        calm_interpreter()
        await stop.wait()
        _log.info("stopping: %g s for what is in progress", options.grace_s)
        await sidecar.drain(options.grace_s, options.quiet_s)
        for task in background:
            task.cancel()
    return 0


def _start_export(group: asyncio.TaskGroup, sidecar: Sidecar, options: Options) -> list[asyncio.Task[None]]:
    """Send to the collector; a sidecar that has none does without the library."""
    from proxy.export import Export  # noqa: PLC0415

    source = options.source
    if isinstance(source, StaticOptions):
        service, task = static.load_snapshot(source).workload.name, ""
    else:
        namespace, _, name = source.service.partition("/")
        service, task = ServiceName(namespace, name), source.task
    export = Export(
        options.otlp, sidecar.telemetry, service, task=task, node=options.node, started_at=sidecar.started_at
    )
    if export.spans is not None:
        sidecar.span_sinks.append(export.spans.offer)
    return [group.create_task(export.run_spans()), group.create_task(export.run_metrics())]


async def _reload_at(hangups: asyncio.Event, sidecar: Sidecar, source: StaticOptions) -> None:
    while True:
        await hangups.wait()
        hangups.clear()
        await static.reload(sidecar, source)


def _calm_allocator() -> None:
    """Have the C library keep blocks of a mebibyte in its heap, and two at its end.

    Blocks above a threshold, at first 128 KiB, come from the kernel each time (mmap, page faults, munmap),
    and so does the end of the heap beyond twice as much; freeing a larger block raises both.
    """
    bytearray(_LARGE_BLOCK_BYTES)


def calm_interpreter() -> None:
    """What lives as long as the process is not looked at again, and cycles are sought less often.

    Exchanges are freed by their counts; at the default thresholds a full collection of every object of the
    process came every few thousand requests.
    """
    # Snapshots are compiled in a thread: it gives the interpreter back within a fifth of a millisecond.
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
