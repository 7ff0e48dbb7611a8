"""DestinationRule `outlierDetection` and `healthCheck`: endpoints that fail are left out.

`outlierDetection` is Istio's, with Kuma's `successRate` and `failurePercentage` inside it. Istio has no
active health checks: `healthCheck` is meshpy's own field of a traffic policy, in the words of Kuma's
MeshHealthCheck.
"""

from __future__ import annotations

from meshpy.model.resilience import (
    CheckProtocol,
    FailurePercentage,
    HealthCheck,
    OutlierDetection,
    SuccessRate,
)
from meshpy.policy.connection_pool import UINT32, or_default
from meshpy.policy.reader import Cursor, Fields

__all__ = ["health_check", "outlier_detection"]

_OUTLIER = (
    "consecutive5xxErrors",
    "consecutiveGatewayErrors",
    "splitExternalLocalOriginErrors",
    "consecutiveLocalOriginFailures",
    "interval",
    "baseEjectionTime",
    "maxEjectionPercent",
    "minHealthPercent",
    "outlierDetectionHttpErrorCodes",
    "successRate",
    "failurePercentage",
)


def outlier_detection(cursor: Cursor) -> OutlierDetection:
    """Read `outlierDetection`."""
    refused = {"consecutiveErrors": ("is Istio's old form", "write consecutiveGatewayErrors:")}
    fields = cursor.fields(_OUTLIER, refused)
    default = OutlierDetection()
    split = fields.boolean("splitExternalLocalOriginErrors")
    if "consecutiveLocalOriginFailures" in fields and not split:
        cursor.problem(
            "`consecutiveLocalOriginFailures` has no effect alone",
            "write splitExternalLocalOriginErrors: true",
        )
    rate, percentage = fields.get("successRate"), fields.get("failurePercentage")
    return OutlierDetection(
        consecutive_5xx=or_default(
            fields.integer("consecutive5xxErrors", 0, UINT32), default.consecutive_5xx
        ),
        consecutive_gateway_errors=fields.integer("consecutiveGatewayErrors", 0, UINT32) or 0,
        split_local_origin=split,
        consecutive_local_origin=or_default(
            fields.integer("consecutiveLocalOriginFailures", 0, UINT32), default.consecutive_local_origin
        ),
        interval_s=fields.duration("interval", 0.001) or default.interval_s,
        base_ejection_s=fields.duration("baseEjectionTime", 0.001) or default.base_ejection_s,
        max_ejection_pct=or_default(fields.integer("maxEjectionPercent", 0, 100), default.max_ejection_pct),
        min_health_pct=or_default(fields.integer("minHealthPercent", 0, 100), default.min_health_pct),
        error_codes=_codes(fields, "outlierDetectionHttpErrorCodes"),
        success_rate=_success_rate(rate) if rate is not None else None,
        failure_percentage=_failure_percentage(percentage) if percentage is not None else None,
    )


def _codes(fields: Fields, name: str) -> frozenset[int]:
    return frozenset(item.integer(100, 599) for item in fields.items(name))


def _success_rate(cursor: Cursor) -> SuccessRate:
    fields = cursor.fields(("minimumHosts", "requestVolume", "standardDeviationFactor"))
    factor, default = fields.get("standardDeviationFactor"), SuccessRate()
    return SuccessRate(
        fields.integer("minimumHosts", 1, UINT32) or default.minimum_hosts,
        fields.integer("requestVolume", 1, UINT32) or default.request_volume,
        factor.number(0, 1000) if factor is not None else default.stdev_factor,
    )


def _failure_percentage(cursor: Cursor) -> FailurePercentage:
    fields = cursor.fields(("threshold", "minimumHosts", "requestVolume"))
    threshold, default = fields.get("threshold"), FailurePercentage()
    return FailurePercentage(
        threshold.number(0, 100) if threshold is not None else default.threshold_pct,
        fields.integer("minimumHosts", 1, UINT32) or default.minimum_hosts,
        fields.integer("requestVolume", 1, UINT32) or default.request_volume,
    )


_CHECK = ("interval", "timeout", "unhealthyThreshold", "healthyThreshold", "healthyPanicThreshold")


def health_check(cursor: Cursor) -> HealthCheck:
    """Read `healthCheck`."""
    fields = cursor.fields((*_CHECK, "http", "tcp", "grpc"))
    chosen = fields.only_one("http", "tcp", "grpc")
    if not chosen:
        cursor.problem("it is not said how to check", "write http: {path: /healthz}, tcp: {} or grpc: {}")
    default, panic = HealthCheck(CheckProtocol.TCP), fields.get("healthyPanicThreshold")
    path, statuses = _http_check(fields.get("http"))
    tcp, grpc = fields.get("tcp"), fields.get("grpc")
    if tcp is not None:
        refused = ("is not offered: what opaque bytes mean is the application's own", "write tcp: {}")
        tcp.fields((), {"send": refused, "receive": refused})
    return HealthCheck(
        CheckProtocol(chosen) if chosen else CheckProtocol.TCP,
        fields.duration("interval", 0.1) or default.interval_s,
        fields.duration("timeout", 0.001) or default.timeout_s,
        fields.integer("unhealthyThreshold", 1, 10_000) or default.unhealthy_threshold,
        fields.integer("healthyThreshold", 1, 10_000) or default.healthy_threshold,
        path,
        statuses,
        grpc.fields(("serviceName",)).text("serviceName") if grpc is not None else "",
        panic.number(0, 100) if panic is not None else default.panic_pct,
    )


def _http_check(cursor: Cursor | None) -> tuple[str, frozenset[int]]:
    default = HealthCheck(CheckProtocol.HTTP)
    if cursor is None:
        return default.path, default.statuses
    fields = cursor.fields(("path", "expectedStatuses"))
    at_path = fields.get("path")
    path = at_path.text() if at_path is not None else default.path
    if at_path is not None and (not path.startswith("/") or not path.isprintable() or " " in path):
        at_path.problem(f"{path!r} is no path", "write a path that begins with /")
    return path, _codes(fields, "expectedStatuses") or default.statuses
