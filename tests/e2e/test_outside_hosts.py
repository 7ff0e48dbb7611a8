"""Outside hosts by their own names: the app's look-up leads to its sidecar, which knows where they are."""

import json

import pytest

from tests.e2e.world import FARTHER, OUTSIDE
from tests.helpers.mesh import INJECT, Mesh

pytestmark = pytest.mark.docker

STACK = "named"
FILE = """
version: "3.8"
services:
  caller:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    deploy:
      labels:
        meshpy.ports: ""
        meshpy.egress: "outside.example.com:80/http,farther.example.com:9000/tcp"
"""
GET = """
import json, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=10) as answer:
    print(json.dumps([answer.status, answer.read().decode()]))
"""
ECHO = """
import json, socket
with socket.create_connection(("farther.example.com", 9000), timeout=10) as sock:
    sock.sendall(b"hello")
    print(json.dumps([sock.getpeername()[0], sock.recv(100).decode()]))
"""
CLOSED = """
import socket
for where in (("example.com", 80), ("OUTSIDE", 80)):
    try:
        socket.create_connection(where, timeout=3).close()
        print("open", where)
    except OSError:
        pass
""".replace("OUTSIDE", OUTSIDE)


def test_named_hosts_are_reached_by_name_alone_and_no_other_host_is(mesh: Mesh):
    """No variable, no proxy: HTTP and bytes; what is not named stays closed, by name and by address."""
    mesh.ok("deploy", *INJECT, "-c", "-", STACK, stdin=FILE, timeout_s=400)
    try:
        app = mesh.engine.task(f"{STACK}_caller")
        sidecar = mesh.engine.task(f"{STACK}_caller-sidecar")

        def told() -> list:
            done = mesh.engine.python(app, GET, "http://outside.example.com/by-name", timeout_s=40)
            return json.loads(done.out) if done.code == 0 else []

        status, text = mesh.engine.wait("the host is known", told, 40)
        assert (status, json.loads(text)["local"]) == (200, OUTSIDE)
        assert "Host: outside.example.com" in json.loads(text)["head"]
        done = mesh.engine.python(app, ECHO, timeout_s=40)
        peer, said = json.loads(done.out)
        assert said == "hello"
        assert peer == sidecar.addresses[f"{STACK}_caller-pod"]
        assert mesh.engine.python(app, CLOSED, timeout_s=60).out == ""
        lines = [
            line for line in mesh.engine.logs(f"{STACK}_caller-sidecar").splitlines() if '"/by-name"' in line
        ]
        assert any(f'"{OUTSIDE}:80"' in line for line in lines)
        assert any(
            f'"{FARTHER}:9000"' in line for line in mesh.engine.logs(f"{STACK}_caller-sidecar").splitlines()
        )
    finally:
        mesh.engine.remove(STACK)
