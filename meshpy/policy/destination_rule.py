"""Istio DestinationRule. Source: istio.io/latest/docs/reference/config/networking/destination-rule."""

from __future__ import annotations

import re
from dataclasses import replace

from meshpy.model.resilience import RetryBudget
from meshpy.policy.connection_pool import connection_pool, retry_budget
from meshpy.policy.health import health_check, outlier_detection
from meshpy.policy.kinds import DestinationRuleDoc, HostRef, Meta, SubsetDoc, TrafficPolicy
from meshpy.policy.load_balancer import load_balancer
from meshpy.policy.reader import Cursor, Fields
from meshpy.policy.strings import host_ref
from meshpy.policy.virtual_service import export_is_private

__all__ = ["destination_rule"]

_SUBSET_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_SETTINGS = ("loadBalancer", "connectionPool", "outlierDetection", "healthCheck", "tls")
_POLICY_REFUSED = {
    "tunnel": (
        "is not offered: a proxy on the way looks hosts up, and rules on their addresses would not hold",
        "name the proxy to the app (HTTPS_PROXY) and write a ServiceEntry for its host, protocol: TCP",
    ),
}
_NOT_AT_PORTS = {
    **_POLICY_REFUSED,
    "proxyProtocol": ("is of the whole host", "write it beside `portLevelSettings`"),
}


def destination_rule(meta: Meta, spec: Cursor) -> DestinationRuleDoc:
    """Read `spec`."""
    fields = spec.fields(("host", "exportTo", "trafficPolicy", "subsets", "workloadSelector"))
    at_host, at_policy = fields.required("host", "host: my-service"), fields.get("trafficPolicy")
    policy = _traffic_policy(at_policy) if at_policy is not None else None
    subsets: dict[str, SubsetDoc] = {}
    for item in fields.items("subsets"):
        subset = _subset(item, policy)
        if subset.name in subsets:
            item.problem(f"the subset {subset.name!r} is written twice", "remove one of them")
        subsets[subset.name] = subset
    return DestinationRuleDoc(
        meta,
        host_ref(at_host) if at_host is not None else HostRef("", spec.place),
        policy,
        tuple(subsets.values()),
        export_is_private(fields),
        _workload_selector(fields.get("workloadSelector")),
    )


def _workload_selector(cursor: Cursor | None) -> dict[str, str] | None:
    """Labels of the callers that the rule is for; None is all of them."""
    if cursor is None:
        return None
    at_labels = cursor.fields(("matchLabels",)).required("matchLabels", "matchLabels: {app: web}")
    labels = at_labels.labels() if at_labels is not None else {}
    if at_labels is not None and not labels:
        at_labels.problem("no label is written", "write a label, or remove `workloadSelector`")
    return labels


def _subset(cursor: Cursor, host_policy: TrafficPolicy | None) -> SubsetDoc:
    fields = cursor.fields(("name", "labels", "trafficPolicy"))
    at_name, at_policy = fields.required("name", "name: v1"), fields.get("trafficPolicy")
    name = at_name.text() if at_name is not None else ""
    if at_name is not None and not _SUBSET_NAME.fullmatch(name):
        at_name.problem(f"{name!r} is no subset name", "write letters, digits, - and . such as v1")
    policy = _traffic_policy(at_policy, host_policy) if at_policy is not None else TrafficPolicy()
    return SubsetDoc(name, cursor.place, fields.labels("labels"), policy)


def _traffic_policy(cursor: Cursor, below: TrafficPolicy | None = None) -> TrafficPolicy:
    """Read a `trafficPolicy`; `below` is what a subset's silence leaves in force."""
    known = (*_SETTINGS, "portLevelSettings", "retryBudget", "proxyProtocol")
    fields = cursor.fields(known, _POLICY_REFUSED)
    ports: dict[int, TrafficPolicy] = {}
    for item in fields.items("portLevelSettings"):
        inner = item.fields((*_SETTINGS, "port"), _NOT_AT_PORTS)
        at_port = inner.required("port", "port: {number: 80}")
        number = at_port.fields(("number",)).required("number", "number: 80") if at_port is not None else None
        if number is None:
            continue
        port = number.integer(1, 65535)
        if port in ports:
            number.problem(f"port {port} has settings twice", "merge them")
        ports[port] = _settings(inner, None, {}, None)
    found = _settings(fields, fields.get("retryBudget"), ports, below)
    proxied = fields.get("proxyProtocol")
    return replace(found, proxy_protocol=_proxy_protocol(proxied)) if proxied is not None else found


def _proxy_protocol(cursor: Cursor) -> int:
    version = cursor.fields(("version",)).get("version")
    return 2 if version is not None and version.choice(("V1", "V2")) == "V2" else 1


def _settings(
    fields: Fields, budget: Cursor | None, ports: dict[int, TrafficPolicy], below: TrafficPolicy | None
) -> TrafficPolicy:
    balancer, pool = fields.get("loadBalancer"), fields.get("connectionPool")
    outlier, check = fields.get("outlierDetection"), fields.get("healthCheck")
    if (tls := fields.get("tls")) is not None:
        _check_tls(tls)
    found = TrafficPolicy(
        load_balancer(balancer) if balancer is not None else None,
        connection_pool(pool, retry_budget(budget) if budget is not None else RetryBudget())
        if pool is not None or budget is not None
        else None,
        outlier_detection(outlier) if outlier is not None else None,
        ports,
        health_check(check) if check is not None else None,
    )
    if balancer is not None:
        _check_failover(balancer, found, below)
    return found


def _check_failover(at: Cursor, found: TrafficPolicy, below: TrafficPolicy | None) -> None:
    """Istio: who does not look for failing endpoints never leaves the nearest ones."""
    locality = found.load_balancing.locality if found.load_balancing is not None else None
    if locality is None or locality.distribute:
        return
    looks = [each for each in (found, below) if each is not None and (each.outlier or each.health_check)]
    if not looks:
        at.problem("`localityLbSetting` cannot fail over without health", "write outlierDetection: {} too")


def _check_tls(cursor: Cursor) -> None:
    """Between sidecars mTLS is always on, so only `ISTIO_MUTUAL` says what is true."""
    refused = dict.fromkeys(
        (
            "clientCertificate",
            "privateKey",
            "caCertificates",
            "credentialName",
            "subjectAltNames",
            "sni",
            "insecureSkipVerify",
            "caCrl",
        ),
        ("is not supported yet by meshpy", "remove it: the mesh's own certificates are used"),
    )
    mode = cursor.fields(("mode",), refused).get("mode")
    if mode is None:
        return
    value = mode.text()
    if value in ("DISABLE", "SIMPLE", "MUTUAL"):
        what = f"{value} is not supported: sidecars speak mTLS with the mesh's certificates to each other"
        mode.problem(what, "write ISTIO_MUTUAL, or remove `tls`; to a host outside the app itself speaks TLS")
    else:
        mode.choice(("ISTIO_MUTUAL",))
