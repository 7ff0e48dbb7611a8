"""meshpy's sidecars from snapshot files: the same work as `envoy_side` gives Envoy, and more.

Beyond the rules, the routes and the log they also keep Istio's metrics, write trace context and check the
identity of both peers.
"""

import json
import os

from meshpy.model.authz import Action, Authorization, AuthorizationPolicy, AuthorizationRule, Operation
from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.match import Exact, Prefix, RequestMatch
from meshpy.model.names import ServiceName
from meshpy.model.route import Destination, Forward, RouteRule, TcpRoute, VirtualHost
from meshpy.model.snapshot import InboundPort, OutboundListener, Snapshot, Workload, mesh_sni
from meshpy.wire import encode
from tests.bench.interpreter import interpreter
from tests.bench.world import Way
from tests.helpers.ports import free_port

CALLER, CALLEE = ServiceName("bench", "caller"), ServiceName("bench", "backend")


def five_rules(*ingress_ports):
    """Five ALLOW rules of which the last matches."""
    others = tuple(
        AuthorizationRule(f"rules[{n}]", operations=(Operation(paths=(Prefix(f"/other/{n}"),)),))
        for n in range(4)
    )
    methods = (Exact("GET"), Exact("POST"))
    last = AuthorizationRule("rules[4]", operations=(Operation(methods=methods, paths=(Prefix("/api/"),)),))
    return Authorization(
        policies=(AuthorizationPolicy("AuthorizationPolicy bench/allow", Action.ALLOW, (*others, last)),),
        baseline=frozenset({CALLER}),
        baseline_external=frozenset(ingress_ports),
    )


def callee(backend_port, ingress_port, h2_backend_port, h2_port):
    """The sidecar of the backend: reached over the mesh, and in plaintext on both ports."""
    cluster, h2_cluster = f"inbound|{ingress_port}||", f"inbound|{h2_port}||"
    return Snapshot(
        version="bench",
        revision=1,
        workload=Workload(CALLEE, "cluster.local"),
        authorization=five_rules(ingress_port, h2_port),
        inbound=(
            InboundPort(ingress_port, Protocol.HTTP, cluster, ingress=True),
            InboundPort(h2_port, Protocol.GRPC, h2_cluster, ingress=True),
        ),
        clusters={
            name: Cluster(name, protocol, Transport.PLAIN, (Endpoint("127.0.0.1", port),))
            for name, protocol, port in (
                (cluster, Protocol.HTTP, backend_port),
                (h2_cluster, Protocol.GRPC, h2_backend_port),
            )
        },
    )


def six_routes(cluster):
    """Six routes of which the last matches."""
    to = Forward((Destination(cluster, host="backend", services=(CALLEE,)),))
    rules = tuple(RouteRule(to, matches=(RequestMatch(path=Prefix(f"/none/{n}")),)) for n in range(5))
    return VirtualHost("backend.bench", ("backend",), (*rules, RouteRule(to)))


def caller(peers, opaque):
    """The sidecar of the caller.

    Args:
        peers: (listen port, mesh port, target port) of each mTLS endpoint.
        opaque: (listen port, plaintext port) of an opaque listener.
    """
    listeners, clusters = [], {}
    for listen, mesh, target in peers:
        name = f"outbound|{target}|{listen}|backend.bench"
        listeners.append(
            OutboundListener("127.0.0.1", listen, Protocol.HTTP, (six_routes(name),), "backend.bench")
        )
        clusters[name] = Cluster(name, Protocol.HTTP, Transport.MTLS, (Endpoint("127.0.0.1", mesh, CALLEE),))
    listen, port = opaque
    name = "outbound|1||opaque.bench"
    tcp = TcpRoute("opaque.bench", (Destination(name, services=(CALLEE,)),))
    listeners.append(OutboundListener("127.0.0.1", listen, Protocol.TCP, (), "", tcp))
    clusters[name] = Cluster(name, Protocol.TCP, Transport.PLAIN, (Endpoint("127.0.0.1", port),))
    return Snapshot(
        version="bench",
        revision=1,
        workload=Workload(CALLER, "cluster.local"),
        authorization=Authorization(),
        outbound=tuple(listeners),
        clusters=clusters,
    )


def sidecar(world, service, snapshot, mesh_port, *ports, log=os.devnull, admin=None, workers=1):
    """Start one; its pid."""
    file = world.processes.write(f"{service}-{mesh_port}.json", json.dumps(encode(snapshot)))
    argv = [*interpreter()[0], "-m", "proxy", "--snapshot", file]
    argv += ["--identity", world.identities[service], "--bind", "edge=127.0.0.1"]
    argv += ["--mesh-bind", f"127.0.0.1:{mesh_port}", "--admin", f"127.0.0.1:{admin or free_port()}"]
    return world.processes.start([*argv, "--access-log", log, "--workers", workers], *ports)


def start(world, workers=1):
    """Both sidecars, the callee's with so many workers; the ways through them by scenario."""
    ingress, h2, mesh, outbound, to_tls, opaque = (free_port() for _ in range(6))
    snapshot = callee(world.backend, ingress, world.h2_backend, h2)
    own = sidecar(world, "backend", snapshot, mesh, ingress, h2, mesh, workers=workers)
    peers = [(outbound, mesh, ingress), (to_tls, world.tls_backend, ingress)]
    other = sidecar(
        world, "caller", caller(peers, (opaque, world.backend)), free_port(), outbound, to_tls, opaque
    )
    return {
        "plain": Way(ingress, (own,)),
        "h2": Way(h2, (own,)),
        "mtls_in": Way(mesh, (own,)),
        "mtls_out": Way(to_tls, (other,)),
        "pair": Way(outbound, (other, own)),
        "tcp": Way(opaque, (other,)),
    }, mesh_sni(CALLEE, ingress)
