"""A published port that ends TLS with the stack's own certificates; a new one comes with the next deploy."""

import json
import sys
from pathlib import Path

import pytest

from tests.e2e import world
from tests.helpers.mesh import INJECT, Mesh
from tests.helpers.web_pki import WebCa

pytestmark = pytest.mark.docker

STACK, HTTPS, HTTP = "front", 8443, 8081
FILE = f"""
version: "3.8"
services:
  store:
    image: meshpy-shop:dev
    command: [python, -m, meshpy.demo.shop, catalog]
    ports: ["{HTTPS}:8080", "{HTTP}:8080"]
    deploy: {{labels: {{meshpy.ports: 8080/http}}}}
  admin:
    image: meshpy-shop:dev
    command: [python, -m, meshpy.demo.shop, catalog]
    deploy: {{labels: {{meshpy.ports: 8080/http}}}}
x-mesh:
  policies:
    - apiVersion: networking.istio.io/v1
      kind: Gateway
      metadata: {{name: front}}
      spec:
        selector: {{app: store}}
        servers:
          - port: {{number: {HTTPS}, name: https, protocol: HTTPS}}
            hosts: [store.example.com]
            tls: {{mode: SIMPLE, credentialName: store}}
          - port: {{number: {HTTPS}, name: partners, protocol: HTTPS}}
            hosts: [partners.example.com]
            tls:
              mode: MUTUAL
              serverCertificate: store.crt
              privateKey: store.key
              caCertificates: partners
          - port: {{number: {HTTP}, name: http, protocol: HTTP}}
            hosts: ["*"]
            tls: {{httpsRedirect: true}}
    - apiVersion: networking.istio.io/v1
      kind: VirtualService
      metadata: {{name: front}}
      spec:
        hosts: [store.example.com]
        gateways: [front]
        http:
          - match: [{{uri: {{prefix: /admin/}}}}]
            rewrite: {{uri: /}}
            route: [{{destination: {{host: admin}}, headers: {{response: {{set: {{x-led: admin}}}}}}}}]
          - match: [{{uri: {{prefix: /nowhere}}}}]
            directResponse: {{status: 418}}
          - route: [{{destination: {{host: store}}}}]
    - apiVersion: security.istio.io/v1
      kind: AuthorizationPolicy
      metadata: {{name: partners}}
      spec:
        selector: {{matchLabels: {{app: store}}}}
        action: DENY
        rules: [{{from: [{{source: {{principals: [partner.org/banned]}}}}]}}]
secrets:
  store.crt: {{file: ./store.crt}}
  store.key: {{file: ./store.key}}
  partners: {{file: ./partners.pem}}
"""
ASK = """
import http.client, json, socket, ssl, sys
address, port, name, path, roots, *own = sys.argv[1:]
context = ssl.create_default_context(cafile=roots)
if own:
    context.load_cert_chain(*own)
try:
    with context.wrap_socket(socket.create_connection((address, int(port)), 10), server_hostname=name) as tls:
        tls.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n\\r\\n".encode())
        answer = http.client.HTTPResponse(tls)
        answer.begin()
        serial = tls.getpeercert()["serialNumber"]
        led = answer.getheader("x-led")
        print(json.dumps([answer.status, tls.version(), serial, answer.read().decode(), led]))
except OSError as error:
    print(json.dumps([0, type(error).__name__, "", str(error)]))
"""


def asked(mesh: Mesh, folder: Path, name: str, *own: Path, path: str = "/items") -> list:
    words = (world.NODE, str(HTTPS), name, path, str(folder / "web.pem"), *map(str, own))
    return json.loads(mesh.engine.run(sys.executable, "-c", ASK, *words).out)


def test_tls_ends_at_a_published_port_and_never_falls_back_to_plaintext(mesh: Mesh, tmp_path: Path):
    web, partners = WebCa(tmp_path), WebCa(tmp_path, "partners")
    web.issue("store", "store.example.com", "partners.example.com")
    file = tmp_path / "stack.yml"
    file.write_text(FILE)
    try:
        mesh.ok("deploy", *INJECT, "-c", str(file), STACK, timeout_s=400)

        def served() -> list:
            told = asked(mesh, tmp_path, "store.example.com")
            return told if told[0] == 200 else []

        _, version, first, _, led = mesh.engine.wait("the store is open", served, 40)
        assert (version, led) == ("TLSv1.3", None)
        on = asked(mesh, tmp_path, "store.example.com", path="/admin/items")
        assert (on[0], on[4]) == (200, "admin")
        assert asked(mesh, tmp_path, "store.example.com", path="/nowhere")[0] == 418

        def way_on() -> float | None:
            ways = {
                (each["source"], each["destination"]): each["mtls_ratio"] for each in mesh.status()["edges"]
            }
            return ways.get((f"{STACK}/store", f"{STACK}/admin"))

        assert mesh.engine.wait("the way on is counted", way_on, 20) == 1.0
        refused = mesh.engine.run("curl", "-s", "-m", "5", f"http://{world.NODE}:{HTTPS}/items")
        assert refused.code in (52, 56)
        told = mesh.engine.run("curl", "-si", "-m", "5", f"http://{world.NODE}:{HTTP}/items?x=1")
        assert told.out.startswith("HTTP/1.1 301")
        assert f"location: https://{world.NODE}:{HTTPS}/items?x=1" in told.out.lower()

        robot = partners.issue("robot", "spiffe://partner.org/robot")
        banned = partners.issue("banned", "spiffe://partner.org/banned")
        thief = partners.issue("thief", "spiffe://cluster.local/ns/front/sa/store")
        assert asked(mesh, tmp_path, "partners.example.com", *robot)[0] == 200
        assert asked(mesh, tmp_path, "partners.example.com", *banned)[0] == 403
        for own in ((), thief):
            assert asked(mesh, tmp_path, "partners.example.com", *own)[0] == 0
        assert "unrecognized" in asked(mesh, tmp_path, "else.example.com")[3].lower()

        web.issue("store", "store.example.com", days=(-2, -1))
        done = mesh.run("deploy", *INJECT, "-c", str(file), STACK)
        assert done.code != 0
        assert "store, published port 8443" in done.err
        assert "store.crt: the certificate expired" in done.err
        assert asked(mesh, tmp_path, "store.example.com")[2] == first
        web.issue("store", "store.example.com", "partners.example.com")
        mesh.ok("deploy", *INJECT, "-c", str(file), STACK, timeout_s=400)
        assert asked(mesh, tmp_path, "store.example.com")[2] not in ("", first)
    finally:
        mesh.engine.remove(STACK)
