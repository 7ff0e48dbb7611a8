"""Envoy as Istio would set it up: connection manager, RBAC with five rules, JSON access log, stats."""

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
                        {"header": {"name": ":method", "string_match": {"exact": "GET"}}},
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
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": "/dev/null",
                    "log_format": {"json_format": LOG_FIELDS},
                },
            }
        ],
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


def cluster(name, port, tls=None):
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
    made = {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if tls:
        made["transport_socket"] = _tls("Upstream", tls)
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
