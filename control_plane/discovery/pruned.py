"""An engine's answers without what nobody here reads: environments, commands, mounts, foreign labels.

Pure. Each list has a function from one item to what is left of it; `docker_json` reads either form alike. An
item of another shape is left out of the question: it raises, and the whole answer is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["event", "network", "node", "pruned", "service", "task", "version"]

STACK = "com.docker.stack.namespace"
OURS = "meshpy."
TOPOLOGY = ("topology.kubernetes.io/", "topology.istio.io/")
FOREIGN = ("com.docker.", "traefik.")
"""What no selector can name; a proxy's labels carry password hashes."""

Json = Mapping[str, Any]


def pruned(items: object, keep: Callable[[Json], dict[str, Any]]) -> list[dict[str, Any]]:
    """A list, each item cut down.

    Raises:
        ValueError: it is no list of objects of the documented shape.
    """
    if not isinstance(items, list):
        raise ValueError(f"a list was expected, not {type(items).__name__}")  # noqa: TRY004 - one error for all
    try:
        return [keep(item) for item in items]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"an item is not of the documented shape: {error!r}") from error


def service(item: Json) -> dict[str, Any]:
    """A service: its name, labels that policies select by, networks, published ports."""
    spec = item["Spec"]
    template = spec.get("TaskTemplate") or {}
    container = template.get("ContainerSpec") or {}
    ports = (spec.get("EndpointSpec") or {}).get("Ports") or ()
    return {
        "ID": item["ID"],
        "Spec": {
            "Name": spec["Name"],
            "Labels": _labels(spec.get("Labels")),
            "TaskTemplate": {
                "ContainerSpec": {
                    "Labels": _labels(container.get("Labels")),
                    "Hostname": container.get("Hostname") or "",
                },
                "Networks": [_attached(each) for each in template.get("Networks") or ()],
            },
            "Networks": [_attached(each) for each in spec.get("Networks") or ()],
            "EndpointSpec": {"Ports": [_only(each, "Protocol", "TargetPort") for each in ports]},
        },
    }


def task(item: Json) -> dict[str, Any]:
    """A task: whose it is, where, in which state, at which addresses."""
    attachments = [
        {
            "Network": {"Spec": {"Name": each["Network"]["Spec"]["Name"]}},
            "Addresses": list(each.get("Addresses") or ()),
        }
        for each in item.get("NetworksAttachments") or ()
    ]
    return {
        **_only(item, "ID", "ServiceID", "NodeID", "Slot", "DesiredState"),
        "Status": {"State": item["Status"]["State"]},
        "NetworksAttachments": attachments,
    }


def node(item: Json) -> dict[str, Any]:
    """A node: its name and where it stands."""
    labels = (item.get("Spec") or {}).get("Labels") or {}
    kept = {key: value for key, value in labels.items() if key.startswith((OURS, *TOPOLOGY))}
    hostname = (item.get("Description") or {}).get("Hostname") or ""
    return {"ID": item["ID"], "Description": {"Hostname": hostname}, "Spec": {"Labels": kept}}


def network(item: Json) -> dict[str, Any]:
    """A network: its name."""
    return {"Id": item["Id"], "Name": item["Name"], "Scope": item.get("Scope", "")}


def version(item: Json) -> dict[str, Any]:
    """The engine: which API it speaks."""
    return _only(item, "ApiVersion", "MinAPIVersion")


def event(item: Json) -> dict[str, Any]:
    """An event: that something changed; what it was is asked for."""
    return _only(item, "Type", "Action", "scope", "time")


def _labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {
        key: value for key, value in (labels or {}).items() if key == STACK or not key.startswith(FOREIGN)
    }


def _attached(item: Json) -> dict[str, Any]:
    return {"Target": item["Target"], "Aliases": list(item.get("Aliases") or ())}


def _only(item: Json, *keys: str) -> dict[str, Any]:
    return {key: item[key] for key in keys if key in item}
