"""nginx, haproxy and the relay that does nothing: for orientation, where they are installed."""

import json
import shutil

from tests.bench.interpreter import interpreter
from tests.bench.world import CALLEE, CALLER, Way
from tests.helpers.ports import free_port

_SCENARIOS = ("plain", "mtls_in", "mtls_out", "pair")


def _ways(ports, callee, caller):
    return {
        "plain": Way(ports["plain"], (callee,)),
        "mtls_in": Way(ports["mtls_in"], (callee,)),
        "mtls_out": Way(ports["mtls_out"], (caller,)),
        "pair": Way(ports["pair"], (caller, callee)),
    }


def start_relay(world):
    """Two relays: the callee's side and the caller's side."""
    ports = {name: free_port() for name in (*_SCENARIOS, "tcp")}
    own, other = str(world.identities[CALLEE]), str(world.identities[CALLER])

    def spec(name, to, server_tls=None, client_tls=None):
        return {"port": ports[name], "to": to, "server_tls": server_tls, "client_tls": client_tls}

    def relay(name, *ways):
        file = world.processes.write(f"relay-{name}.json", json.dumps(ways))
        listening = [way["port"] for way in ways if not way["server_tls"]]
        return world.processes.start([*interpreter()[0], "tests/bench/relay.py", file], *listening)

    callee = relay("callee", spec("plain", world.backend), spec("mtls_in", world.backend, server_tls=own))
    caller = relay(
        "caller",
        spec("mtls_out", world.tls_backend, client_tls=other),
        spec("pair", ports["mtls_in"], client_tls=other),
        spec("tcp", world.backend),
    )
    return {**_ways(ports, callee, caller), "tcp": Way(ports["tcp"], (caller,))}


_NGINX = """
worker_processes 1; daemon off; master_process off; error_log stderr crit; pid {folder}/nginx-{name}.pid;
events {{ worker_connections 4096; }}
http {{
  log_format json escape=json '{{"start_time":"$time_iso8601","method":"$request_method","path":"$uri",'
    '"response_code":$status,"bytes_sent":$bytes_sent,"duration":$request_time,"request_id":"$request_id",'
    '"authority":"$host","upstream_host":"$upstream_addr"}}';
  access_log {folder}/nginx-{name}.log json buffer=64k;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 1000000000; keepalive_timeout 600;
  {servers}
}}
"""
_NGINX_SERVER = """
  upstream up_{name} {{ server 127.0.0.1:{to}; keepalive 128; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} {ssl}; {tls}
    location /other/0 {{ return 403; }} location /other/1 {{ return 403; }}
    location /other/2 {{ return 403; }} location /other/3 {{ return 403; }} location / {{ return 403; }}
    location /api/ {{ proxy_pass {scheme}://up_{name}; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; {upstream_tls} }} }}
"""


def start_nginx(world):
    """Two nginx of one worker each, or None where it is not installed."""
    if shutil.which("nginx") is None:
        return None
    ports = {name: free_port() for name in _SCENARIOS}
    folder = world.processes.folder

    def server(name, to, *, tls_in=False, tls_out=False):
        own, other = world.identities[CALLEE], world.identities[CALLER]
        tls = (
            f"ssl_certificate {own}/tls.crt; ssl_certificate_key {own}/tls.key; ssl_session_tickets off;"
            f"ssl_client_certificate {own}/ca.crt; ssl_verify_client on; ssl_verify_depth 4;"
            "ssl_protocols TLSv1.3;"
        )
        upstream_tls = (
            f"proxy_ssl_certificate {other}/tls.crt; proxy_ssl_certificate_key {other}/tls.key;"
            f"proxy_ssl_trusted_certificate {other}/ca.crt; proxy_ssl_protocols TLSv1.3;"
        )
        return _NGINX_SERVER.format(
            name=name,
            to=to,
            port=ports[name],
            ssl="ssl" if tls_in else "",
            tls=tls if tls_in else "",
            scheme="https" if tls_out else "http",
            upstream_tls=upstream_tls if tls_out else "",
        )

    def run(name, servers, *listening):
        text = _NGINX.format(folder=folder, name=name, servers="".join(servers))
        file = world.processes.write(f"nginx-{name}.conf", text)
        return world.processes.start(["nginx", "-e", "stderr", "-c", file], *listening)

    inside = [server("plain", world.backend), server("mtls_in", world.backend, tls_in=True)]
    callee = run("callee", inside, ports["plain"])
    outside = [
        server("mtls_out", world.tls_backend, tls_out=True),
        server("pair", ports["mtls_in"], tls_out=True),
    ]
    caller = run("caller", outside, ports["mtls_out"], ports["pair"])
    return _ways(ports, callee, caller)


_HAPROXY = """
global
  nbthread 1
  maxconn 8000
  log stdout format raw local0
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  mode http
  log global
  timeout client 600s
  timeout server 600s
  timeout connect 5s
  option forwardfor
  http-reuse always
  log-format '{{"start_time":"%t","method":"%HM","path":"%HP","response_code":%ST,"bytes_sent":%B,"ms":%Ta}}'
{sections}
"""
_HAPROXY_SECTION = """
frontend in_{name}
  bind 127.0.0.1:{port} {bind}
  http-request deny if {{ path_beg /other/0 }}
  http-request deny if {{ path_beg /other/1 }}
  http-request deny if {{ path_beg /other/2 }}
  http-request deny if {{ path_beg /other/3 }}
  http-request deny unless {{ path_beg /api/ }} {{ method GET POST }}
  http-request set-header X-Request-Id %[uuid()]
  default_backend to_{name}
backend to_{name}
  server up 127.0.0.1:{to} pool-max-conn 256 {server}
"""


def start_haproxy(world):
    """Two haproxy of one thread each, or None where it is not installed."""
    if shutil.which("haproxy") is None:
        return None
    ports = {name: free_port() for name in _SCENARIOS}
    pems = {}
    for service in (CALLEE, CALLER):
        folder = world.identities[service]
        pem = (folder / "tls.crt").read_text() + (folder / "tls.key").read_text()
        pems[service] = world.processes.write(f"{service}.pem", pem)
    ca = {service: world.identities[service] / "ca.crt" for service in pems}

    def section(name, to, *, tls_in=False, tls_out=False):
        bind = f"ssl crt {pems[CALLEE]} ca-file {ca[CALLEE]} verify required alpn http/1.1"
        server = f"ssl crt {pems[CALLER]} ca-file {ca[CALLER]} verify required alpn http/1.1"
        return _HAPROXY_SECTION.format(
            name=name,
            to=to,
            port=ports[name],
            bind=bind if tls_in else "",
            server=server if tls_out else "",
        )

    def run(name, sections, *listening):
        file = world.processes.write(f"haproxy-{name}.cfg", _HAPROXY.format(sections="".join(sections)))
        return world.processes.start(["haproxy", "-db", "-f", file], *listening)

    inside = [section("plain", world.backend), section("mtls_in", world.backend, tls_in=True)]
    callee = run("callee", inside, ports["plain"])
    outside = [
        section("mtls_out", world.tls_backend, tls_out=True),
        section("pair", ports["mtls_in"], tls_out=True),
    ]
    caller = run("caller", outside, ports["mtls_out"], ports["pair"])
    return _ways(ports, callee, caller)
