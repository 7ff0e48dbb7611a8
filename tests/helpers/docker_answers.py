"""What a manager's engine answers, in the documented shape (Docker Engine API 1.41)."""

from __future__ import annotations

from typing import Any

from control_plane.discovery.docker_json import Answers

NETWORKS = {"n-mesh": "mesh", "n-pod": "shop_api-pod", "n-default": "shop_default"}


def networks() -> list[dict[str, Any]]:
    return [
        {"Id": key, "Name": name, "Scope": "swarm", "Driver": "overlay"} for key, name in NETWORKS.items()
    ]


def swarm_service(
    key: str,
    *,
    stack: str = "shop",
    labels: dict[str, str] | None = None,
    container_labels: dict[str, str] | None = None,
    networks: tuple[str, ...] = ("n-default",),
    ports: tuple[int, ...] = (),
) -> dict[str, Any]:
    name = f"{stack}_{key}" if stack else key
    stack_label = {"com.docker.stack.namespace": stack} if stack else {}
    published = [{"Protocol": "tcp", "TargetPort": port, "PublishedPort": port} for port in ports]
    return {
        "ID": f"id-{name}",
        "Spec": {
            "Name": name,
            "Labels": {**stack_label, **(labels or {})},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "x", "Labels": {**stack_label, **(container_labels or {})}},
                "Networks": [{"Target": network, "Aliases": [key, f"{key}.local"]} for network in networks],
            },
            "EndpointSpec": {"Mode": "vip", "Ports": published},
        },
    }


SIDECAR_LABELS = {
    "meshpy.workload": "api",
    "meshpy.ports": "8080/http,5432/tcp",
    "meshpy.ingress": "8080",
    "meshpy.hosts": "shop-api,backend",
    "meshpy.networks": "shop_default,traefik_public",
    "meshpy.pod": "shop_api-pod",
    "meshpy.binds": "db2=shop_api-pod2",
    "meshpy.egress": "api.stripe.com:443/tls",
}


def task(
    number: int,
    *,
    service: str = "shop_api-sidecar",
    state: str = "running",
    desired: str = "running",
    mesh: str = "10.0.1.7",
    node: str = "node-1",
) -> dict[str, Any]:
    attachments = [
        {"Network": {"ID": key, "Spec": {"Name": NETWORKS[key]}}, "Addresses": [f"{address}/24"]}
        for key, address in (("n-mesh", mesh), ("n-pod", f"10.0.5.{number}"))
    ]
    return {
        "ID": f"task-{number}",
        "ServiceID": f"id-{service}",
        "NodeID": node,
        "DesiredState": desired,
        "Status": {"State": state},
        "NetworksAttachments": attachments,
    }


def answers(**changes: Any) -> Answers:
    """An injected `api` with one sidecar task, an exempt `db`, one nobody injected, one without a stack."""
    everything: dict[str, Any] = {
        "services": [
            swarm_service(
                "api",
                labels={"tier": "back", "traefik.enable": "true", "meshpy.enable": "true"},
                container_labels={"version": "v2", "tier": "ignored"},
                networks=("n-pod",),
            ),
            swarm_service("api-sidecar", labels=SIDECAR_LABELS, networks=("n-pod", "n-mesh")),
            swarm_service("db", labels={"meshpy.exempt": "mounts docker.sock"}, ports=(5432,)),
            swarm_service("old"),
            swarm_service("alone", stack=""),
        ],
        "tasks": [task(1)],
        "nodes": [{"ID": "node-1", "Description": {"Hostname": "worker-1"}}],
        "networks": networks(),
    }
    return Answers(**{**everything, **changes})
