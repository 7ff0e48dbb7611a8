"""Envoy as Istio would set it up: connection manager, RBAC with five rules, JSON access log, stats."""

import json
import os

from tests.bench.processes import ROOT
from tests.bench.world import CALLEE, CALLER, Way
from tests.helpers.ports import free_port

ENVOY = ROOT / "build/bench/envoy/envoy/_bin/envoy"

FILTERS = "type.googleapis.com/envoy.extensions.filters"

LOG_FIELDS = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
}


def rules(names):
    """Five ALLOW policies of which the last matches."""
    policies = {
        f"rule-{number}": {
            "permissions": [{"url_path": {"path": {"prefix": f"/other/{number}"}}}],
            "principals": [{"any": True}],
        }
        for number in range(names - 1)
    }
    policies["rule-last"] = {
        "permissions": [
            {
                "and_rules": {
                    "rules": [
                        {
                            "or_rules": {
                                "rules": [
                                    {"header": {"name": ":method", "string_match": {"exact": method}}}
                                    for method in ("GET", "POST")
                                ]
                            }
                        },
                        {"url_path": {"path": {"prefix": "/api/"}}},
                    ]
                }
            }
        ],
        "principals": [{"any": True}],
    }
    return policies


def listener(name, port, cluster, tls=None, rbac=True):
    filters = []
    if rbac:
        filters.append(
            {
                "name": "envoy.filters.http.rbac",
                "typed_config": {
                    "@type": f"{FILTERS}.http.rbac.v3.RBAC",
                    "rules": {"action": "ALLOW", "policies": rules(5)},
                },
            }
        )
    filters.append(
        {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"{FILTERS}.http.router.v3.Router"},
        }
    )
    manager = {
        "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "normalize_path": True,
        "merge_slashes": True,
        "access_log": _access_log(),
        "http_filters": filters,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        *(
                            {"match": {"prefix": f"/none/{n}"}, "route": {"cluster": cluster}}
                            for n in range(5)
                        ),
                        {"match": {"prefix": "/"}, "route": {"cluster": cluster}},
                    ],
                }
            ]
        },
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    if tls:
        chain["transport_socket"] = _tls("Downstream", tls) | {}
        chain["transport_socket"]["typed_config"]["require_client_certificate"] = True
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"name": name, "address": address, "filter_chains": [chain]}


def tcp_listener(name, port, cluster):
    """An opaque listener with the same log."""
    proxy = {
        "@type": f"{FILTERS}.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": name,
        "cluster": cluster,
        "access_log": _access_log(),
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    chain = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}
    return {"name": name, "address": address, "filter_chains": [chain]}


def _access_log():
    return [
        {
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": "/dev/null",
                "log_format": {"json_format": LOG_FIELDS},
            },
        }
    ]


def cluster(name, port, tls=None, h2=False):
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
    made = {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if tls:
        made["transport_socket"] = _tls("Upstream", tls)
    if h2:
        options = {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
        made["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        }
    return made


def _tls(side, identity):
    """Mutual TLS 1.3 with a SPIFFE SAN matcher; `identity` is a folder with tls.crt, tls.key, ca.crt."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext",
            "common_tls_context": {
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": f"{identity}/tls.crt"},
                        "private_key": {"filename": f"{identity}/tls.key"},
                    }
                ],
                "validation_context": {
                    "trusted_ca": {"filename": f"{identity}/ca.crt"},
                    "match_typed_subject_alt_names": [
                        {"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}
                    ],
                },
            },
        },
    }


def bootstrap(listeners, clusters):
    return {
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors"
                        ".downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 50000,
                    },
                }
            ]
        },
    }


def start(world):
    """Both proxies, one worker thread each, or None where Envoy is not installed."""
    if not ENVOY.exists():
        return None
    plain, h2, mesh, outbound, to_tls, opaque = (free_port() for _ in range(6))
    own, other = world.identities[CALLEE], world.identities[CALLER]
    base_id = os.getpid() % 10_000

    def run(name, listeners, clusters, base_id, *listening):
        text = json.dumps(bootstrap(listeners, clusters))
        file = world.processes.write(f"envoy-{name}.json", text)
        argv = [ENVOY, "-c", file, "--concurrency", 1, "--base-id", base_id, "-l", "error"]
        return world.processes.start(argv, *listening)

    callee = run(
        "callee",
        [
            listener("plain", plain, "app"),
            listener("h2", h2, "h2-app"),
            listener("mesh", mesh, "app", tls=own),
        ],
        [cluster("app", world.backend), cluster("h2-app", world.h2_backend, h2=True)],
        base_id,
        plain,
        h2,
        mesh,
    )
    caller = run(
        "caller",
        [
            listener("outbound", outbound, "peer", rbac=False),
            listener("to-tls", to_tls, "tls-app", rbac=False),
            tcp_listener("opaque", opaque, "app"),
        ],
        [
            cluster("peer", mesh, tls=other),
            cluster("tls-app", world.tls_backend, tls=other),
            cluster("app", world.backend),
        ],
        base_id + 1,
        outbound,
        to_tls,
        opaque,
    )
    return {
        "plain": Way(plain, (callee,)),
        "h2": Way(h2, (callee,)),
        "mtls_in": Way(mesh, (callee,)),
        "mtls_out": Way(to_tls, (caller,)),
        "pair": Way(outbound, (caller, callee)),
        "tcp": Way(opaque, (caller,)),
    }
