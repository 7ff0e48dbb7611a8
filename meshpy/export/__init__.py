"""Spans and metrics on their way to a collector.

A bounded queue takes what is offered and never waits; one task sends batches, tries again what may be tried
again, and counts what it had to drop. Nothing here is on the path of a request.
"""

from meshpy.export.exporter import Counts, Exporter, Pusher
from meshpy.export.exports import Exports
from meshpy.export.transport import open_transport

__all__ = ["Counts", "Exporter", "Exports", "Pusher", "open_transport"]
