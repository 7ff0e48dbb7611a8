"""What the demo shows: figures that the mesh itself reports, and how fast a policy takes effect."""

from __future__ import annotations

import http.client
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from meshpy.demo.runner import Demo
from meshpy.errors import MeshpyError
from meshpy.model.inventory import Inventory

__all__ = ["canary_share", "policy_to_enforced_ms", "summary"]

PROBE_PATH = "/meshpy-probe"
ENFORCED_WITHIN_S = 10.0


def summary(edges: Iterable[Mapping[str, Any]], inventory: Inventory) -> dict[str, Any]:
    """The totals of all edges between services, as callers' and callees' sidecars counted them.

    A denied request is no failure: it is what the policies say. `canary` is the newer version's share of
    the requests to the first host that several services serve.
    """
    edges = [edge for edge in edges if edge["source"] and edge["destination"]]
    http = [edge for edge in edges if edge["protocol"] != "tcp"]
    requests = sum(edge["requests"] for edge in http)
    denied: Counter[str] = Counter()
    for edge in edges:
        denied.update(edge["denied"])
    failed = sum(round(edge["requests"] * (1 - edge["success_ratio"])) for edge in http)
    total = sum(edge["requests"] for edge in edges)
    secured = sum(edge["requests"] * edge["mtls_ratio"] for edge in edges)
    return {
        "requests": requests,
        "success_ratio": round(1 - failed / requests, 5) if requests else 0.0,
        "mtls_ratio": round(secured / total, 5) if total else 0.0,
        "denied": dict(sorted(denied.items())),
        "canary": canary_share(edges, inventory),
        "retries": sum(edge["retries"] for edge in edges),
        "recovered_by_retry": sum(edge["recovered_by_retry"] for edge in edges),
    }


def canary_share(edges: Iterable[Mapping[str, Any]], inventory: Inventory) -> float | None:
    """The share of requests that the last of the services behind one logical host got, None when none."""
    hosts: dict[str, list[str]] = {}
    for service in inventory.services.values():
        for host in service.hosts:
            hosts.setdefault(host, []).append(str(service.name))
    behind = next((sorted(names) for names in hosts.values() if len(names) > 1), None)
    if behind is None:
        return None
    counts: Counter[str] = Counter()
    for edge in edges:
        if edge["destination"] in behind:
            counts[edge["destination"]] += edge["requests"]
    total = counts.total()
    return round(counts[behind[-1]] / total, 4) if total else None


def policy_to_enforced_ms(demo: Demo, namespace: str) -> float | None:
    """Apply a policy that denies one path at the demo's door and wait until that path is denied.

    Returns:
        Milliseconds from the call to the first 403; None when the stack has no open HTTP port.

    Raises:
        MeshpyError: it was not enforced within 10 s.
    """
    door = demo.door
    if door is None:
        return None
    text = _probe_policy(namespace, door.service.name)
    begin = time.monotonic()
    demo.operator.call(
        "PATCH",
        "/v1/policies",
        {"documents": [{"name": "probe.yaml", "text": text}], "default_namespace": namespace},
    )
    connection = http.client.HTTPConnection(door.address, door.port, timeout=5)
    try:
        while time.monotonic() - begin < ENFORCED_WITHIN_S:
            connection.request("GET", PROBE_PATH)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 403:
                return round((time.monotonic() - begin) * 1000, 1)
            time.sleep(0.002)
    finally:
        connection.close()
        demo.operator.call("DELETE", f"/v1/policies/AuthorizationPolicy/{namespace}/meshpy-probe")
    raise MeshpyError(f"a policy was not enforced within {ENFORCED_WITHIN_S:.0f} s")


def _probe_policy(namespace: str, service: str) -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: meshpy-probe, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{service: {service}}}}}
  action: DENY
  rules: [{{to: [{{operation: {{paths: ["{PROBE_PATH}"]}}}}]}}]
"""
