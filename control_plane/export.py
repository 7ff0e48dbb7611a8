"""Spans of all sidecars, and the control plane's own metrics, to a collector."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from control_plane.settings import OtlpSettings
from control_plane.streams import Stream
from meshpy.export import Exports
from meshpy.model.metrics import Family
from meshpy.model.span import Span
from meshpy.otlp import Resource, encode_metrics, encode_spans

__all__ = ["Export"]

MAX_RESOURCES = 10_000


class Export(Exports[tuple[Resource, Span]]):
    """Args:
    collect: the control plane's own metrics as of now.
    """

    def __init__(self, settings: OtlpSettings, collect: Callable[[], Iterable[Family]]) -> None:
        self._settings, self._collect = settings, collect
        self._since_ns = time.time_ns()
        self._resources: OrderedDict[tuple[str, str], Resource] = OrderedDict()
        super().__init__(settings.traces, settings.metrics, _encode, self._encode_metrics)

    def forward(self, stream: Stream, span: Span) -> None:
        """Send a span of a sidecar as if it had sent it itself."""
        if self.spans is not None:
            self.spans.offer([(self._resource(stream), span)])

    def _resource(self, stream: Stream) -> Resource:
        key = (str(stream.service), stream.task)
        known = self._resources.get(key)
        if known is None:
            name = stream.service
            more = dict(self._settings.resource)
            known = Resource(name.name, name.namespace, stream.task, stream.node, more)
            self._resources[key] = known
            if len(self._resources) > MAX_RESOURCES:
                self._resources.popitem(last=False)
        return known

    def _encode_metrics(self) -> tuple[bytes, int]:
        found = list(self._collect())
        resource = Resource("control-plane", "mesh-system", more=dict(self._settings.resource))
        body = encode_metrics(resource, found, since_ns=self._since_ns, now_ns=time.time_ns())
        return body, len(found)


def _encode(items: Sequence[tuple[Resource, Span]]) -> bytes:
    return encode_spans(items)
