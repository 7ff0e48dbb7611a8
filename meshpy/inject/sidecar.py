"""The sidecar service of one app, and the networks, secrets and configs that go with it."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from meshpy.inject.edge import ports_through, secured_ports
from meshpy.inject.members import Member, Plan
from meshpy.inject.servers import secret_of
from meshpy.inject.words import pairs, text_of
from meshpy.model.ingress import IngressServer
from meshpy.model.inventory import GatewayPort
from meshpy.model.names import standard_hosts
from meshpy.wire import encode

__all__ = [
    "cache_volumes",
    "is_proxy_label",
    "join_secret",
    "network_definition",
    "secret_key",
    "sidecar_service",
]

CA_CONFIG = "meshpy-ca"
USER = "65532:65532"
CACHE = "/var/cache/meshpy"
"""Where the image has a directory of its user, mode 0700, which the engine copies into a new volume."""
PROXY_LABELS = re.compile(r"(?:traefik\.|com\.df\.|caddy(?:_\d+)?(?:[._]|$)).*", re.IGNORECASE)
DRAIN_S = 30
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?")


def is_proxy_label(name: str) -> bool:
    """True for labels by which a reverse proxy finds a service: they go where the traffic must go."""
    return PROXY_LABELS.fullmatch(name) is not None


def join_secret(stack: str, service: str) -> str:
    """The external name of the join secret; names of secrets have at most 64 characters."""
    name = f"meshpy-join_{stack}_{service}"
    if len(name) <= 64:
        return name
    return f"{name[:55]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def secret_key(service: str) -> str:
    """The key of the join secret in the file."""
    return f"meshpy-join-{service}"


def network_definition(plan: Plan) -> dict[str, Any]:
    """A pod network: no way out, and encrypted between nodes unless the kernel cannot."""
    definition: dict[str, Any] = {"driver": "overlay", "internal": True}
    if plan.settings.encrypted:
        definition["driver_opts"] = {"encrypted": "true"}
    return definition


def cache_volumes(plan: Plan) -> dict[str, dict[str, str]]:
    """The volumes of sidecars that keep a cache, by key: one a slot, for two tasks may share a node."""
    return {
        _cache_key(member): {"name": f"{plan.stack_name}_{_cache_key(member)}-{{{{.Task.Slot}}}}"}
        for member in plan.meshed
        if _keeps_cache(plan, member)
    }


def _cache_key(member: Member) -> str:
    return f"{member.key}-sidecar-cache"


def _keeps_cache(plan: Plan, member: Member) -> bool:
    return plan.settings.cache if member.orders.cache is None else member.orders.cache


def sidecar_service(plan: Plan, member: Member) -> dict[str, Any]:
    """The service `<app>-sidecar`."""
    value: dict[str, Any] = {
        "image": plan.settings.image,
        "user": USER,
        "read_only": True,
        "cap_drop": ["ALL"],
        "sysctls": {"net.ipv4.ip_forward": "0", "net.ipv4.ip_unprivileged_port_start": "0"},
        "environment": _environment(plan, member),
        "secrets": _secrets(member),
        "configs": [{"source": CA_CONFIG, "target": "/etc/meshpy/ca.crt"}],
        "networks": _networks(plan, member),
        "healthcheck": {
            "test": ["CMD", "meshpy-proxy", "healthcheck"],
            "interval": "5s",
            "timeout": "20s",
            "retries": 5,
            "start_period": "60s",
        },
        "stop_grace_period": _grace(text_of(member.service.get("stop_grace_period"))),
    }
    if _keeps_cache(plan, member):
        value["environment"]["MESHPY_CACHE"] = CACHE
        value["volumes"] = [f"{_cache_key(member)}:{CACHE}"]
    if member.published:
        value["ports"] = _ports(plan, member)
    value["deploy"] = _deploy(plan, member)
    return value


def _secrets(member: Member) -> list[dict[str, Any]]:
    """Proof of membership, and what its servers present."""
    paths = [
        path
        for server in member.servers
        for tls in server.tls
        for path in (*(part for pair in tls.pairs for part in (pair.certificate, pair.key)), tls.ca)
        if path
    ]
    keys = dict.fromkeys((*(secret_of(path) for path in paths), *member.credentials))
    mounts = [(secret_key(member.key), "meshpy-join"), *((key, f"meshpy-tls-{key}") for key in keys)]
    owner = {"uid": "65532", "gid": "65532", "mode": 0o400}
    return [{"source": source, "target": target, **owner} for source, target in mounts]


def _environment(plan: Plan, member: Member) -> dict[str, str]:
    settings = plan.settings
    found = {
        "MESHPY_NAMESPACE": '{{index .Service.Labels "com.docker.stack.namespace"}}',
        "MESHPY_SERVICE": member.key,
        "MESHPY_TASK_ID": "{{.Task.ID}}",
        "MESHPY_NODE": "{{.Node.Hostname}}",
        "MESHPY_CONTROL_PLANE": settings.control_plane,
        "MESHPY_TRUST_DOMAIN": settings.trust_domain,
        "MESHPY_JOIN_TOKEN_FILE": "/run/secrets/meshpy-join",
        "MESHPY_TRUST_BUNDLE_FILE": "/etc/meshpy/ca.crt",
        **settings.sidecar_environment,
    }
    if member.outbound:
        found["MESHPY_OUTBOUND"] = member.outbound
        found["MESHPY_OUTBOUND_BIND"] = member.pods[0].full
        if member.orders.patterns:
            found["MESHPY_OUTBOUND_HOSTS"] = ",".join(member.orders.patterns)
    return found


def _networks(plan: Plan, member: Member) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pod in member.pods:
        found[pod.key] = {"aliases": list(pod.aliases)} if pod.aliases else None
    found[plan.mesh_key] = None
    for door in member.doors:
        own = [*standard_hosts(member.name), *member.hosts, *door.aliases]
        unique = {name.lower(): name for name in reversed(own)}
        found[door.network.key] = {"aliases": sorted(unique.values())}
    if member.has_way_out:
        found[plan.egress_key] = None
    return found


def _ports(plan: Plan, member: Member) -> list[Any]:
    """As the file has them; where the sidecar is not behind a virtual address, ports are the node's own."""
    is_direct = _endpoint_mode(plan, member) == "dnsrr"
    behind: list[IngressServer | GatewayPort] = [*member.servers, *member.gateway_ports]
    return ports_through(member.service["ports"], behind, in_host_mode=is_direct)


def _endpoint_mode(plan: Plan, member: Member) -> str:
    deploy = member.service.get("deploy") or {}
    return plan.settings.endpoint_mode or text_of(deploy.get("endpoint_mode"))


def _deploy(plan: Plan, member: Member) -> dict[str, Any]:
    app = member.service.get("deploy") or {}
    value: dict[str, Any] = {}
    mode = text_of(app.get("mode"))
    if mode in ("global", "global-job"):
        value["mode"] = "global"
    elif "replicas" in app and mode != "replicated-job":
        value["replicas"] = app["replicas"]
    if endpoint_mode := _endpoint_mode(plan, member):
        value["endpoint_mode"] = endpoint_mode
    placement = dict(app.get("placement") or {})
    if placement:
        value["placement"] = placement
    holds_port = any(p.mode == "host" for p in member.published) or (
        endpoint_mode == "dnsrr" and member.published
    )
    order = (
        "stop-first"
        if holds_port or "max_replicas_per_node" in placement or "mode" in value
        else "start-first"
    )
    value["update_config"] = {"parallelism": 1, "order": order}
    value["restart_policy"] = {"condition": "any", "delay": "1s"}
    value["labels"] = _labels(plan, member)
    return value


def _labels(plan: Plan, member: Member) -> dict[str, Any] | list[str]:
    ports = [f"{port.text}/{port.protocol}" for port in member.ports]
    ingress = [port.text for port in member.ports if port.published or member.doors]
    binds = [f"{name}={pod.full}" for pod in member.pods[1:] for name in pod.aliases]
    secured = secured_ports((*member.servers, *member.gateway_ports), member.published)
    egress = [f"{host}:{port}/{protocol}" for host, port, protocol in member.orders.egress]
    labels: dict[str, Any] = {
        "meshpy.workload": member.key,
        "meshpy.pod": member.pods[0].full,
        "meshpy.networks": ",".join(sorted(member.networks)),
        "meshpy.ports": ",".join(ports),
    }
    for name, words in (
        ("meshpy.ingress", ingress),
        ("meshpy.doors", [door.network.full for door in member.doors]),
        ("meshpy.hosts", member.hosts),
        ("meshpy.binds", binds),
        ("meshpy.egress", egress),
        ("meshpy.metrics_port", _metrics_port(plan)),
        *_through_gateway(member),
        ("meshpy.group", [f"{plan.stack_name}_{member.group_network}"] if member.group_network else []),
        ("meshpy.secured", [str(port) for port in sorted(secured)]),
        ("meshpy.gateway", [f"{p.published}={p.port}/{p.target}" for p in member.gateway_ports]),
        ("meshpy.credentials", member.credentials),
        ("meshpy.proxy_protocol", [str(port) for port in member.orders.proxy_protocol]),
    ):
        if words:
            labels[name] = ",".join(words)
    if member.servers:
        labels["meshpy.servers"] = json.dumps(encode(member.servers), separators=(",", ":"))
    if plan.settings.permissive:
        labels["meshpy.permissive"] = ",".join(sorted(member.networks))
        return labels
    theirs = (member.service.get("deploy") or {}).get("labels")
    moved = [(name, text) for name, text, _ in pairs(theirs) if is_proxy_label(name)]
    if (
        isinstance(theirs, list) and moved
    ):  # docker interpolates `${X}` in items of a list, not in keys of a mapping
        items = [text_of(item) for item in theirs]
        return [f"{name}={text}" for name, text in labels.items()] + [
            i for i in items if is_proxy_label(i.partition("=")[0])
        ]
    return {**labels, **dict(moved)}


def _through_gateway(member: Member) -> list[tuple[str, list[str]]]:
    """What the gateway has to let through for it, when there is one."""
    if member.gateway is None or not member.calls_outside:
        return []
    return [
        ("meshpy.egress_gateway", [str(member.gateway)]),
        ("meshpy.outbound", [member.outbound] if member.outbound else []),
        ("meshpy.patterns", list(member.orders.patterns)),
    ]


def _metrics_port(plan: Plan) -> list[str]:
    """Where Prometheus' dockerswarm_sd finds the sidecar's metrics."""
    bind = plan.settings.sidecar_environment.get("MESHPY_METRICS", "off")
    if bind in ("off", ""):
        return []
    return [bind.rpartition(":")[2] if ":" in bind else "15020"]


def _grace(text: str) -> str:
    """At least the time a drain takes, and never shorter than the app's own."""
    match = DURATION.fullmatch(text)
    if text and (match is None or not any(match.groups())):
        return text if text != "0" else f"{DRAIN_S}s"
    seconds = (
        sum(int(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True))
        if match
        else 0
    )
    return f"{max(seconds, DRAIN_S)}s"
