"""What every candidate is started in: the backend's ports, the identities, the processes of the run."""

import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

from certs.identity import save_bundle
from tests.bench.processes import Processes
from tests.helpers.pki import mesh_pki
from tests.helpers.ports import free_port

CALLER, CALLEE = "caller", "backend"
NAMESPACE = "bench"


@dataclass(frozen=True)
class Way:
    """One way from the client to the backend: the port to call and the processes whose CPU counts."""

    port: int
    pids: tuple[int, ...]


@dataclass(frozen=True)
class World:
    """Args:
    identities: folders with tls.crt, tls.key and ca.crt, by service.
    """

    processes: Processes
    identities: dict[str, Path]
    backend: int
    tls_backend: int
    h2_backend: int

    def client_tls(self):
        """The context of a load generator that calls as the caller's sidecar would."""
        identity = self.identities[CALLER]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(f"{identity}/ca.crt")
        context.load_cert_chain(f"{identity}/tls.crt", f"{identity}/tls.key")
        context.set_alpn_protocols(["http/1.1"])
        return context


def make_world(processes):
    """Identities in the folder of the run, and the backend."""
    pki = mesh_pki("cluster.local")
    identities = {}
    for service in (CALLER, CALLEE):
        folder = identities[service] = processes.folder / service
        folder.mkdir()
        pki.identity(NAMESPACE, service).save(folder)
        save_bundle(folder, pki.bundle)
    backend, tls_backend, h2_backend = free_port(), free_port(), free_port()
    processes.start(
        [sys.executable, "tests/bench/backend.py", backend, tls_backend, identities[CALLEE]],
        backend,
        tls_backend,
    )
    processes.start([sys.executable, "-m", "tests.bench.h2_backend", h2_backend], h2_backend)
    return World(processes, identities, backend, tls_backend, h2_backend)
