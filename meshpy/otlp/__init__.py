"""OpenTelemetry's protocol, as bytes: requests of the trace and metrics services, and what answers mean.

Written by hand on protobuf's wire format: four message types need no code generator and no run-time library.
Names and attributes follow the semantic conventions of SCHEMA_URL. Pure; `meshpy.export` sends.
"""

from meshpy.otlp.metrics import encode_metrics
from meshpy.otlp.resource import SCHEMA_URL, Resource
from meshpy.otlp.traces import encode_spans

__all__ = ["SCHEMA_URL", "Resource", "encode_metrics", "encode_spans"]
