"""One stream from the control plane: snapshots in, answers, counters and tapped requests back.

Frames are read as they come and worked on beside that, so that a snapshot which takes its time (names to
look up, a large mesh to compile) does not keep us from answering the control plane's pings.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from meshpy import wire
from meshpy.errors import MeshpyError
from meshpy.model.tap import TapFilter
from proxy.look import answer, read_question
from proxy.options import ControlOptions
from proxy.sidecar import Sidecar
from proxy.websocket import WebSocket

__all__ = ["ControlStream", "Holder", "StreamError"]

_log = logging.getLogger("meshpy.proxy")

_LARGE = 64 * 1024
_MAX_RECORDED = 256 * 1024
_SPANS_OF_FRAME = 100
_MAX_RECALLED = 1000
_WAITING_FRAMES = 16
_REPORT_EVERY_S = 1.0
_TAP_EVERY_S = 0.25
_ADMITTED_EVERY_S = 5.0
_VERSION = "0.1.0"


class StreamError(MeshpyError):
    """The control plane sent what is not understood."""


class Holder(Protocol):
    """What outlives a stream."""

    held: Mapping[str, Any] | None
    """The snapshot in force as it was printed; None before the first."""

    async def take_bundle(self, pem: str) -> None:
        """Believe in these roots from now on."""

    def kept(self) -> None:
        """`held` changed."""

    def ask_renewal(self, within_s: float) -> None:
        """The control plane wants us to have a new certificate soon."""


class ControlStream:
    """Speaks on one connected WebSocket until it ends."""

    def __init__(
        self,
        socket: WebSocket,
        sidecar: Sidecar,
        options: ControlOptions,
        holder: Holder,
    ) -> None:
        self._socket, self._sidecar, self._options, self._holder = socket, sidecar, options, holder
        self._capture = 0
        self._frames: asyncio.Queue[str] = asyncio.Queue(_WAITING_FRAMES)

    async def run(self, until: Callable[[], Awaitable[None]]) -> None:
        """Greet, then exchange frames until either side closes.

        Args:
            until: when it returns we close.

        Raises:
            ExceptionGroup: the connection broke, or the control plane sent what is not understood.
        """
        self._sidecar.paths.restart()
        await self._hello()
        async with asyncio.TaskGroup() as group:
            telling = (
                self._report(),
                self._tell_admitted(),
                self._tell_tapped(),
                self._tell_recorded(),
                self._tell_draining(),
                self._tell_app(),
            )
            works = (self._work(), *telling, self._close_after(until))
            beside = [group.create_task(work) for work in works]
            try:
                async with aclosing(self._socket.texts()) as texts:
                    async for text in texts:
                        await self._frames.put(text)
            finally:
                self._sidecar.tap.ask((), 0)
                self._sidecar.recording.end()
                for task in beside:
                    task.cancel()

    async def _close_after(self, until: Callable[[], Awaitable[None]]) -> None:
        await until()
        self._socket.begin_close("coming back")

    async def _hello(self, *, from_nothing: bool = False) -> None:
        held = None if from_nothing else self._holder.held
        options = self._options
        await self._socket.send_json(
            {
                "type": "hello",
                "held": held["version"] if held is not None else "",
                "revision": held.get("revision", 0) if held is not None else 0,
                "task": options.task,
                "node": options.node,
                "meshpy": _VERSION,
                "metrics_port": options.metrics_port,
                "metrics_host": options.metrics_host,
            }
        )

    async def _work(self) -> None:
        while True:
            await self._on_frame(await self._frames.get())

    async def _on_frame(self, text: str) -> None:
        try:
            # Frames of a large mesh take many milliseconds to read: requests go on meanwhile.
            frame = await asyncio.to_thread(json.loads, text) if len(text) > _LARGE else json.loads(text)
            kind = frame["type"]
        except (ValueError, KeyError, TypeError) as error:
            raise StreamError("a frame of the stream is not understood") from error
        match kind:
            case "snapshot":
                await self._on_snapshot(frame.get("delta") or {})
            case "tap":
                self._on_tap(frame)
            case "recall":
                traces = [str(each) for each in frame.get("traces", ())][:_MAX_RECALLED]
                self._sidecar.spans.recall(traces, time.monotonic())
            case "capture":
                self._on_capture(frame)
            case "look":
                await self._on_look(frame)
            case "bundle":
                await self._on_bundle(frame)
            case "renew":
                self._holder.ask_renewal(float(frame.get("within_s", 0)))
            case _:
                """A newer control plane may say what this sidecar does not know."""

    async def _on_snapshot(self, delta: dict[str, Any]) -> None:
        """Apply a delta; what cannot be applied is refused with its reason and changes nothing."""
        version = str(delta.get("version", ""))
        base = self._holder.held if delta.get("base") else None
        try:
            printed = await asyncio.to_thread(wire.apply_delta, base, delta)
        except (MeshpyError, KeyError, TypeError) as error:
            _log.warning("asking for a whole snapshot: %s", error)
            await self._hello(from_nothing=True)
            return
        try:
            await self._sidecar.apply(await asyncio.to_thread(wire.decode_snapshot, printed))
        except MeshpyError as error:
            _log.error("snapshot %s refused, the last good one stays: %s", version, error)
            await self._socket.send_json({"type": "nack", "version": version, "reason": str(error)})
            return
        self._holder.held = printed
        self._holder.kept()
        await self._socket.send_json({"type": "ack", "version": version})

    async def _on_bundle(self, frame: Mapping[str, Any]) -> None:
        await self._holder.take_bundle(str(frame.get("pem", "")))
        if "id" in frame:  # control planes that count who has it say so
            await self._socket.send_json({"type": "believes", "bundle": str(frame["id"])})

    def _on_tap(self, frame: dict[str, Any]) -> None:
        """A newer control plane may ask what this sidecar does not know: then it tells nothing."""
        try:
            filters = [TapFilter.read(each) for each in frame.get("filters", ())]
            self._sidecar.tap.ask(filters, int(frame.get("per_s", 0)))
        except (ValueError, TypeError, AttributeError) as error:
            _log.warning("a tap is not understood: %s", error)
            self._sidecar.tap.ask((), 0)

    def _on_capture(self, frame: dict[str, Any]) -> None:
        """Record the plaintext side, when it is ours that is asked for."""
        options = self._options
        if frame.get("service") != options.service or frame.get("task") not in ("", options.task):
            return
        self._capture = int(frame.get("id", 0))
        max_bytes = max(0, int(frame.get("max_bytes", 0)))
        self._sidecar.record(max_bytes, is_redacted=frame.get("redact") is True)

    async def _tell_recorded(self) -> None:
        """Bytes for whoever captures, in frames that the control plane takes."""
        while True:
            await asyncio.sleep(_TAP_EVERY_S)
            packets = self._sidecar.recording.take()
            while packets:
                size, count = 0, 0
                while count < len(packets) and (not count or size + len(packets[count][4]) < _MAX_RECORDED):
                    size += len(packets[count][4])
                    count += 1
                await self._socket.send_json(
                    {
                        "type": "captured",
                        "id": self._capture,
                        "packets": [_packet(*each) for each in packets[:count]],
                    }
                )
                packets = packets[count:]

    async def _on_look(self, frame: dict[str, Any]) -> None:
        try:
            question = read_question(frame)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            _log.warning("a question is not understood: %s", error)
            return
        await self._socket.send_json(await asyncio.to_thread(answer, self._sidecar.recent, question))

    async def _tell_tapped(self) -> None:
        while True:
            await asyncio.sleep(_TAP_EVERY_S)
            records = self._sidecar.tap.take()
            if records:
                await self._socket.send_json({"type": "tapped", "records": records})

    async def _tell_draining(self) -> None:
        """Callers are sent elsewhere while we still answer; the engine's word comes a poll later."""
        await self._sidecar.draining.wait()
        await self._socket.send_json({"type": "draining"})

    async def _tell_app(self) -> None:
        """Whether the app was found: until then callers whom we let in get 503."""
        clusters = self._sidecar.clusters
        told: bool | None = None
        while True:
            clusters.changed.clear()
            now = clusters.has_app
            if self._sidecar.snapshot.value is not None and told is not now:
                told = now
                await self._socket.send_json({"type": "app", "found": now})
            await clusters.changed.wait()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            records = self._sidecar.telemetry.take_records()
            if records:
                await self._socket.send_json({"type": "stats", "records": records})
            classes = self._sidecar.paths.take()
            if classes:
                await self._socket.send_json({"type": "paths", "classes": classes})
            spans = self._sidecar.outbox.take()
            # The control plane takes frames of a mebibyte; a span may be some kilobytes.
            for start in range(0, len(spans), _SPANS_OF_FRAME):
                some = spans[start : start + _SPANS_OF_FRAME]
                await self._socket.send_json({"type": "spans", "spans": some})

    async def _tell_admitted(self) -> None:
        """Told even when it is empty: a workload that is watched and not called is known to be so."""
        telemetry = self._sidecar.telemetry
        while True:
            await self._socket.send_json(telemetry.admitted.take(telemetry.verdicts))
            await asyncio.sleep(_ADMITTED_EVERY_S)


def _packet(
    stream: int,
    at: float,
    source: tuple[str, int],
    destination: tuple[str, int],
    data: bytes,
    comment: str,
    offset: int,
) -> dict[str, object]:
    shown = base64.b64encode(data).decode("ascii")
    return {"stream": stream, "at": at, "source": source, "destination": destination, "data": shown,
            "comment": comment, "offset": offset}  # fmt: skip
