"""A cluster of peers as a group: a Redis and its replica, each reached by clients through its sidecar."""

from uuid import uuid4

import pytest

from tests.helpers.mesh import INJECT, Mesh

pytestmark = pytest.mark.docker

STACK = "flock"
FILE = """
version: "3.8"
services:
  reader:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    environment: {CACHE_URL: "redis://cache:6379", MIRROR_URL: "redis://mirror:6379"}
    deploy: {labels: {meshpy.ports: ""}}
  cache:
    image: redis:7
    command: [redis-server, --save, ""]
    deploy:
      endpoint_mode: dnsrr   # peers call each other by name; a kernel without IP_VS has no virtual addresses
      labels: {meshpy.group: caches}
  mirror:
    image: redis:7
    command: redis-server --save "" --dir /tmp --replicaof cache 6379 --replica-announce-ip mirror
    deploy:
      endpoint_mode: dnsrr
      labels: {meshpy.group: caches, meshpy.dependencies: cache}
"""
WRITE_AND_READ = """
import socket, sys
def told(host, words):
    with socket.create_connection((host, 6379), 5) as redis:
        redis.sendall(words.encode() + b"\\r\\n")
        return redis.recv(4000).decode()
assert told("cache", "SET k " + sys.argv[1]).startswith("+OK")
print(told("mirror", "GET k").split()[-1], "master_link_status:up" in told("mirror", "INFO replication"))
"""


def test_peers_replicate_directly_and_serve_their_client_through_the_mesh(mesh: Mesh):
    """What the reader writes to one it reads from the other; its edges are mTLS, the peers have none."""
    engine = mesh.engine
    mesh.set_policies()
    mesh.ok("deploy", *INJECT, "-c", "-", STACK, stdin=FILE, timeout_s=300)
    try:
        reader, word = engine.task(f"{STACK}_reader"), uuid4().hex

        def is_read() -> bool:
            return engine.python(reader, WRITE_AND_READ, word).out.split() == [word, "True"]

        engine.wait("the mirror has what the cache was told", is_read, 120)
        told = engine.exec(engine.task(f"{STACK}_cache"), "redis-cli", "INFO", "replication").out
        assert "ip=mirror" in told, told
        assert set(engine.task(f"{STACK}_mirror").addresses) == {
            f"{STACK}_mirror-pod",
            f"{STACK}_caches-group",
        }

        def edges() -> dict[tuple[str, str], float]:
            found = [each for each in mesh.status()["edges"] if each["source"].startswith(f"{STACK}/")]
            return {(each["source"], each["destination"]): each["mtls_ratio"] for each in found}

        wanted = {(f"{STACK}/reader", f"{STACK}/{peer}"): 1.0 for peer in ("cache", "mirror")}
        engine.wait("both edges are seen", lambda: edges() == wanted, 30)
    finally:
        engine.remove(STACK)
