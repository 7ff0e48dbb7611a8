"""Policy documents and a small inventory to try them on."""

from __future__ import annotations

from textwrap import dedent, indent

from meshpy.errors import DocumentError, Problem
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.inventory import AppAddress, EgressHost, Inventory, Port, Service
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import MESH_PORT
from meshpy.policy import PolicySet, load

VERSIONS = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "PeerAuthentication": "security.istio.io/v1",
    "MeshConfig": "meshpy.io/v1",
    "Gateway": "networking.istio.io/v1",
    "Gateway.gateway.networking.k8s.io": "gateway.networking.k8s.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "GRPCRoute": "gateway.networking.k8s.io/v1",
    "ReferenceGrant": "gateway.networking.k8s.io/v1beta1",
    "NetworkPolicy": "projectcalico.org/v3",
    "GlobalNetworkPolicy": "projectcalico.org/v3",
    "Tier": "projectcalico.org/v3",
    "ServiceEntry": "networking.istio.io/v1",
    "Telemetry": "telemetry.istio.io/v1",
    "HTTPLocalRateLimitPolicy": "policy.linkerd.io/v1alpha1",
    "NetworkSet": "projectcalico.org/v3",
    "GlobalNetworkSet": "projectcalico.org/v3",
    "StagedNetworkPolicy": "projectcalico.org/v3",
    "StagedGlobalNetworkPolicy": "projectcalico.org/v3",
    "StagedKubernetesNetworkPolicy": "projectcalico.org/v3",
    "NetworkPolicy.networking.k8s.io": "networking.k8s.io/v1",
    "CiliumNetworkPolicy": "cilium.io/v2",
    "CiliumClusterwideNetworkPolicy": "cilium.io/v2",
}

BRIEF = """\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata:
 name: deny-all
 namespace: default
spec:
 selector: all()
 types:
   - Ingress
   - Egress
 ingress:
   - action: Deny
 egress:
   - action: Deny
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: my-service
spec:
  hosts:
    - my-service
  http:
    - route:
        - destination:
            host: my-service
            port:
              number: 80
      retries:
        attempts: 3
        perTryTimeout: 2s
"""


def document(kind: str, spec: str, name: str = "p", namespace: str = "shop", more: str = "") -> str:
    """A document whose `spec` begins on line 5, two columns in; `more` goes into its metadata."""
    scope = (
        ""
        if kind in ("Tier", "MeshConfig") or "Global" in kind or "wide" in kind
        else f", namespace: {namespace}"
    )
    head = f"apiVersion: {VERSIONS[kind]}\nkind: {kind.partition('.')[0]}\n"
    head += f"metadata: {{name: {name}{scope}{more}}}\nspec:\n"
    return head + indent(dedent(spec).strip("\n") + "\n", "  ")


def loaded(*texts: str) -> PolicySet:
    return load([(f"{index}.yml", text) for index, text in enumerate(texts)])


def problems_of(*texts: str) -> tuple[Problem, ...]:
    """What is wrong with the documents; empty when they are accepted."""
    try:
        loaded(*texts)
    except DocumentError as error:
        return error.problems
    return ()


def service(name: str, **fields: object) -> Service:
    """A meshed service of stack shop with one HTTP port, on the stack's default network."""
    namespace, _, short = name.rpartition("/")
    full = ServiceName(namespace or "shop", short)
    values: dict[str, object] = {
        "name": full,
        "ports": (Port(8080, Protocol.HTTP),),
        "networks": frozenset({f"{full.namespace}_default"}),
        "app": AppAddress(dns=f"tasks.{short}.{full.swarm_name}-pod"),
        "endpoints": (Endpoint(f"10.0.1.{len(short)}", MESH_PORT, full, "node-1"),),
    }
    return Service(**{**values, **fields})


def shop(*more: Service) -> Inventory:
    """web (published) → api → catalog-v1 / catalog-v2 → redis, and an exempt cron."""
    services = [
        service("web", ports=(Port(80, Protocol.HTTP, published=True),)),
        service(
            "api",
            labels={"tier": "back"},
            egress=(EgressHost("api.stripe.com", 443, Protocol.TLS),),
        ),
        service("catalog-v1", hosts=("catalog",), labels={"version": "v1"}),
        service("catalog-v2", hosts=("catalog",), labels={"version": "v2"}),
        service(
            "redis", ports=(Port(6379, Protocol.TCP),), networks=frozenset({"shop_data", "shop_default"})
        ),
        service("report", networks=frozenset({"shop_data"})),
        service("blog/web", ports=(Port(80, Protocol.HTTP), Port(81, Protocol.HTTP))),
        *more,
    ]
    return Inventory({one.name: one for one in services})
