"""Envoy as the other sidecar: mTLS with the mesh's certificates, the peer's SPIFFE id checked by its SAN."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
TYPES = "type.googleapis.com/envoy"


def find_envoy() -> str | None:
    """The binary: of the search path, or the one that `make bench` fetched."""
    fetched = ROOT / "build/bench/envoy/envoy/_bin/envoy"
    return shutil.which("envoy") or (str(fetched) if fetched.exists() else None)


def _tls(side: str, folder: Path, peer: str, *, alpn: list[str], sni: str = "") -> dict:
    common = {
        "alpn_protocols": alpn,
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {
                "certificate_chain": {"filename": f"{folder}/tls.crt"},
                "private_key": {"filename": f"{folder}/tls.key"},
            }
        ],
        "validation_context": {
            "trusted_ca": {"filename": f"{folder}/ca.crt"},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    }
    made = {
        "@type": f"{TYPES}.extensions.transport_sockets.tls.v3.{side}TlsContext",
        "common_tls_context": common,
    }
    if side == "Upstream":
        made["sni"] = sni
    else:
        made["require_client_certificate"] = True
    return {"name": "envoy.transport_sockets.tls", "typed_config": made}


def config(
    listen: int,
    upstream: int,
    *,
    is_h2: bool,
    accepts: tuple[Path, str] | None = None,
    dials: tuple[Path, str, str] | None = None,
) -> str:
    """One listener before one cluster.

    Args:
        accepts: identity folder and SPIFFE id of the only caller; None listens in plaintext.
        dials: identity folder, SPIFFE id of the only callee, server name; None dials in plaintext.
    """
    manager = {
        "@type": f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "peer",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPES}.extensions.filters.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "next"}}],
                }
            ]
        },
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    if accepts is not None:
        chain["transport_socket"] = _tls("Downstream", *accepts, alpn=["h2", "http/1.1"])
    options = {
        "@type": f"{TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options" if is_h2 else "http_protocol_options": {}},
    }
    cluster = {
        "name": "next",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": {
            "cluster_name": "next",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
        },
    }
    if dials is not None:
        folder, peer, sni = dials
        alpn = ["h2"] if is_h2 else ["http/1.1"]
        cluster["transport_socket"] = _tls("Upstream", folder, peer, alpn=alpn, sni=sni)
    listener = {"name": "peer", "address": _address(listen), "filter_chains": [chain]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


def opaque_config(
    listen: int,
    upstream: int,
    *,
    alpn: str,
    accepts: tuple[Path, str] | None = None,
    dials: tuple[Path, str, str] | None = None,
) -> str:
    """As `config`, for bytes."""
    kind = f"{TYPES}.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    forward = {"@type": kind, "stat_prefix": "peer", "cluster": "next"}
    chain = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": forward}]}
    if accepts is not None:
        chain["transport_socket"] = _tls("Downstream", *accepts, alpn=[alpn])
    endpoint = {"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}
    cluster = {
        "name": "next",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "next", "endpoints": [endpoint]},
    }
    if dials is not None:
        folder, peer, sni = dials
        cluster["transport_socket"] = _tls("Upstream", folder, peer, alpn=[alpn], sni=sni)
    listener = {"name": "peer", "address": _address(listen), "filter_chains": [chain]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


def _address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
