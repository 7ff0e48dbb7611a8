"""meshpy's sidecars from snapshot files: the same work as `envoy_side` gives Envoy."""

from meshpy.model.authz import Action, Authorization, AuthorizationPolicy, AuthorizationRule, Operation
from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.match import Exact, Prefix, RequestMatch
from meshpy.model.names import ServiceName
from meshpy.model.route import Destination, Forward, RouteRule, VirtualHost
from meshpy.model.snapshot import InboundPort, OutboundListener, Snapshot, Workload

CALLER, CALLEE = ServiceName("bench", "caller"), ServiceName("bench", "backend")


def five_rules():
    """Five ALLOW rules of which the last matches."""
    others = tuple(
        AuthorizationRule(f"rules[{n}]", operations=(Operation(paths=(Prefix(f"/other/{n}"),)),))
        for n in range(4)
    )
    last = AuthorizationRule(
        "rules[4]", operations=(Operation(methods=(Exact("GET"),), paths=(Prefix("/api/"),)),)
    )
    return Authorization(
        policies=(AuthorizationPolicy("AuthorizationPolicy bench/allow", Action.ALLOW, (*others, last)),),
        baseline=frozenset({CALLER}),
        baseline_external=frozenset(range(1, 65536)),
    )


def callee(backend_port, ingress_port):
    """The sidecar of the backend: reached over the mesh, and in plaintext on `ingress_port`."""
    cluster = f"inbound|{ingress_port}||"
    return Snapshot(
        version="bench",
        revision=1,
        workload=Workload(CALLEE, "cluster.local"),
        authorization=five_rules(),
        inbound=(InboundPort(ingress_port, Protocol.HTTP, cluster, ingress=True),),
        clusters={
            cluster: Cluster(cluster, Protocol.HTTP, Transport.PLAIN, (Endpoint("127.0.0.1", backend_port),))
        },
    )


def caller(listen_port, mesh_port, target_port):
    """The sidecar of the caller: six routes, mTLS to the callee's sidecar."""
    name = f"outbound|{target_port}||backend.bench"
    to = Forward((Destination(name, host="backend", services=(CALLEE,)),))
    rules = tuple(RouteRule(to, matches=(RequestMatch(path=Prefix(f"/none/{n}")),)) for n in range(5))
    return Snapshot(
        version="bench",
        revision=1,
        workload=Workload(CALLER, "cluster.local"),
        authorization=Authorization(),
        outbound=(
            OutboundListener(
                "127.0.0.1",
                listen_port,
                Protocol.HTTP,
                (VirtualHost("backend.bench", ("backend",), (*rules, RouteRule(to))),),
                "backend.bench",
            ),
        ),
        clusters={
            name: Cluster(name, Protocol.HTTP, Transport.MTLS, (Endpoint("127.0.0.1", mesh_port, CALLEE),))
        },
    )
