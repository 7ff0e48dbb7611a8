"""Sidecars as processes, between programs that this project did not write."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from meshpy.model.authz import Authorization
from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.route import Destination, Forward, RouteRule, TcpRoute, VirtualHost
from meshpy.model.snapshot import InboundPort, OutboundListener, Snapshot, Workload
from meshpy.wire import encode
from tests.helpers.pki import MeshPki
from tests.helpers.ports import free_port
from tests.helpers.sidecars import API, LOOPBACK, WEB

ROOT = Path(__file__).parents[2]


class Processes:
    """Starts programs in one folder and ends each by its pid."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen] = []

    def start(self, argv, *ports: int, **options) -> subprocess.Popen:
        log = self.folder / f"{len(self._running)}-{Path(str(argv[0])).name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen([str(word) for word in argv], stdout=output, stderr=output, **options)
        self._running.append(process)
        for port in ports:
            self._wait_for(port, process, log)
        return process

    def _wait_for(self, port: int, process: subprocess.Popen, log: Path) -> None:
        for _ in range(300):
            assert process.poll() is None, (
                f"{process.args[0]} ended: {log.read_text(errors='replace')[-2000:]}"
            )
            if _is_listening(port):
                return
            time.sleep(0.05)
        raise AssertionError(f"nobody listens on {port}: {log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        for process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)
            if process.poll() is None:
                process.kill()
                process.wait()


def _is_listening(port: int) -> bool:
    """Ask the kernel, not the program: a probe would be a connection in its log."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(words[1].endswith(wanted) and words[3] == "0A" for words in map(str.split, lines))


@dataclass(frozen=True)
class App:
    """One port of `api`: where its program listens and what it speaks."""

    port: int
    listens: int
    protocol: Protocol = Protocol.HTTP


def api_snapshot(*apps: App, authorization: Authorization | None = None, ingress: bool = True) -> Snapshot:
    """The sidecar of `api`: its apps over the mesh, HTTP also in plaintext at the edge."""
    ports = tuple(
        InboundPort(app.port, app.protocol, f"inbound|{app.port}||", ingress and app.protocol.is_http)
        for app in apps
    )
    open_ports = frozenset(port.port for port in ports if port.ingress)
    return Snapshot(
        "peers-api",
        1,
        Workload(API, "mesh.test"),
        authorization or Authorization(baseline=frozenset({WEB}), baseline_external=open_ports),
        ports,
        (),
        {
            f"inbound|{app.port}||": Cluster(
                f"inbound|{app.port}||", app.protocol, Transport.PLAIN, (Endpoint(LOOPBACK, app.listens),)
            )
            for app in apps
        },
    )


@dataclass(frozen=True)
class Call:
    """One outbound listener of `web`: where it listens, what it calls, over which mesh port."""

    listens: int
    port: int
    mesh_port: int
    protocol: Protocol = Protocol.HTTP


def web_snapshot(*calls: Call) -> Snapshot:
    """The sidecar of `web`, which calls `api` over mTLS."""
    clusters, listeners = {}, []
    for number, call in enumerate(calls):
        name = f"outbound|{call.port}|s{number}|api.shop"
        endpoint = Endpoint(LOOPBACK, call.mesh_port, API)
        clusters[name] = Cluster(name, call.protocol, Transport.MTLS, (endpoint,))
        to = (Destination(name, host="api", services=(API,)),)
        hosts, tcp = (), TcpRoute("api.shop", to)
        if call.protocol.is_http:
            hosts = (VirtualHost("api.shop", ("api", LOOPBACK), (RouteRule(Forward(to)),)),)
            tcp = tcp if call.protocol is Protocol.AUTO else None
        default = "api.shop" if hosts else ""
        listeners.append(OutboundListener(LOOPBACK, call.listens, call.protocol, hosts, default, tcp))
    listeners.sort(key=lambda each: (each.bind, each.port))
    return Snapshot(
        "peers-web", 1, Workload(WEB, "mesh.test"), Authorization(), (), tuple(listeners), clusters
    )


@dataclass(frozen=True)
class Started:
    """A sidecar that runs: its mesh port, its admin port and its process."""

    mesh: int
    admin: int
    process: subprocess.Popen


def start_sidecar(
    processes: Processes, pki: MeshPki, snapshot: Snapshot, *ports: int, **options: object
) -> Started:
    """Run `meshpy-proxy` from a snapshot file and wait for its listeners; options are those of Popen."""
    mesh, admin = free_port(), free_port()
    name = snapshot.workload.name
    folder = processes.folder / f"sidecar-{mesh}"
    pki.save_identity(folder, name.namespace, name.name)
    (folder / "snapshot.json").write_text(json.dumps(encode(snapshot)))
    argv = [Path(sys.executable).with_name("meshpy-proxy"), "--snapshot", folder / "snapshot.json"]
    argv += ["--identity", folder, "--bind", f"edge={LOOPBACK}", "--mesh-bind", f"{LOOPBACK}:{mesh}"]
    argv += ["--admin", f"{LOOPBACK}:{admin}", "--access-log", folder / "access.log"]
    waited = (mesh, *ports) if snapshot.inbound else ports
    return Started(mesh, admin, processes.start(argv, *waited, cwd=ROOT, **options))


NGINX = """daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port}; root {folder}/www; }}
}}
"""


def start_nginx(processes: Processes, folder: Path) -> int:
    """nginx with one public and one private file; returns its port."""
    port = free_port()
    for name, text in (
        ("public/a.txt", "public\n"),
        ("private/secret.txt", "TOP-SECRET\n"),
        ("probe", "ok\n"),
    ):
        file = folder / "www" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port))
    processes.start(["nginx", "-p", folder, "-e", folder / "error.log", "-c", config], port)
    return port
