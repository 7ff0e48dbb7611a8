"""Names: services, namespaces and the host names by which Swarm callers know them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CONTROL_PLANE",
    "OUTSIDE",
    "OUTSIDE_WORDS",
    "ROOT_NAMESPACE",
    "ServiceName",
    "host_port",
    "standard_hosts",
]

ROOT_NAMESPACE = "mesh-system"
"""Policies of this namespace apply to the whole mesh (Istio's root namespace)."""

OUTSIDE = "outside"
"""Callers without an identity of the mesh, wherever people read or write who calls."""

OUTSIDE_WORDS = frozenset({OUTSIDE, "external"})
"""What is read as that; `external` is what earlier versions wrote."""


@dataclass(frozen=True, slots=True, order=True)
class ServiceName:
    """A service `name` of the stack `namespace`; its text form is `namespace/name`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str, default_namespace: str = "default") -> ServiceName:
        """Read `name` or `namespace/name`.

        Raises:
            ValueError: a part is empty or there is more than one slash.
        """
        parts = text.split("/")
        if len(parts) == 1:
            parts = [default_namespace, *parts]
        if len(parts) != 2 or not all(parts):
            raise ValueError(f"{text!r} is no service: write NAME or NAMESPACE/NAME")
        return cls(parts[0], parts[1])

    @property
    def spiffe_path(self) -> str:
        """The path of its SPIFFE id, Istio's form: `/ns/<namespace>/sa/<service>`."""
        return f"/ns/{self.namespace}/sa/{self.name}"

    @property
    def swarm_name(self) -> str:
        """The engine's own name of it, `<stack>_<service>`."""
        return f"{self.namespace}_{self.name}"


CONTROL_PLANE = ServiceName(ROOT_NAMESPACE, "control-plane")


def standard_hosts(service: ServiceName) -> tuple[str, ...]:
    """Every name that Swarm's DNS gives a service without being asked (SWARM: DNS)."""
    return (
        service.name,
        service.swarm_name,
        f"tasks.{service.name}",
        f"tasks.{service.swarm_name}",
    )


def host_port(host: str, port: int) -> str:
    """As a Host field and a setting have it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
