"""`x-mesh.servers`: TLS at published ports, in the words of Istio's Gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest

from control_plane.discovery.labels import ports_of, servers_of
from meshpy.inject import inventory_of_stack, uninject
from meshpy.model.ingress import TlsMode, TlsVersion, covers_host
from meshpy.model.names import ServiceName
from tests.helpers.stacks import HEAD, injected, problems, services

SECRETS = """secrets:
  shop.crt: {file: ./shop.crt}
  shop.key: {file: ./shop.key}
  shop.ca: {external: true}
  both: {external: true}
"""


def stack(servers: str, ports: str = '["443:8080", "80:8080"]', more: str = "") -> str:
    """A service `web` with these servers below its `x-mesh`."""
    return (
        HEAD
        + f"""  web:
    image: nginx
    ports: {ports}
    deploy: {{labels: {{meshpy.ports: "8080/http,9000/tls,5432/tcp"{more}}}}}
    x-mesh: {{servers: {servers}}}
"""
        + SECRETS
    )


HTTPS = "[{port: 443, tls: {mode: SIMPLE, credentialName: shop}}, {port: 80, tls: {httpsRedirect: true}}]"


def sidecar(text: str) -> dict[str, Any]:
    return services(text)["web-sidecar"]


def test_published_ports_lead_to_servers_and_the_app_is_open_in_plaintext_nowhere() -> None:
    text = stack(HTTPS)
    found = sidecar(text)
    assert found["ports"] == [
        {"target": 443, "published": 443, "protocol": "tcp", "mode": "ingress"},
        {"target": 80, "published": 80, "protocol": "tcp", "mode": "ingress"},
    ]
    mounts = {each["source"]: each for each in found["secrets"]}
    assert mounts["shop.key"]["target"] == "meshpy-tls-shop.key"
    assert (mounts["shop.key"]["uid"], mounts["shop.key"]["mode"]) == ("65532", 0o400)
    labels = found["deploy"]["labels"]
    assert labels["meshpy.secured"] == "8080"
    redirect, https = servers_of(labels["meshpy.servers"])
    assert (redirect.port, redirect.redirect_to, redirect.tls) == (80, 443, ())
    assert (https.published, https.target, https.tls[0].hosts) == (443, 8080, ("*",))
    assert [(p.number, p.published, p.secured) for p in ports_of(labels)][2] == (9000, False, False)
    assert next(p for p in ports_of(labels) if p.number == 8080).secured
    assert uninject(injected(text).text) == text


def test_the_file_and_the_engine_tell_the_same_of_it() -> None:
    text = stack(HTTPS)
    labels = sidecar(text)["deploy"]["labels"]
    service = inventory_of_stack(text, "shop").services[ServiceName("shop", "web")]
    assert service.servers == servers_of(labels["meshpy.servers"])
    assert service.ports == ports_of(labels)


def test_a_port_that_is_the_apps_too_gets_another_to_listen_on_and_others_stay_as_they_are() -> None:
    ports = '["${TLS:-8080}:8080", "9000:9000", "7000-7001:5432-5433"]'
    servers = "[{port: 8080, tls: {mode: SIMPLE, credentialName: both}}]"
    text = stack(servers, ports).replace("5432/tcp", "5432/tcp,5433/tcp")
    found = sidecar(text)
    assert found["ports"][0] == {
        "target": 16000,
        "published": "${TLS:-8080}",
        "protocol": "tcp",
        "mode": "ingress",
    }
    assert found["ports"][1:] == ["9000:9000", "7000-7001:5432-5433"]
    (server,) = servers_of(found["deploy"]["labels"]["meshpy.servers"])
    assert server.tls[0].pairs[0].certificate == server.tls[0].pairs[0].key == "/run/secrets/meshpy-tls-both"
    in_host_mode = services(text, endpoint_mode="dnsrr")["web-sidecar"]["ports"]
    assert [(p["target"], p["mode"]) for p in in_host_mode][:2] == [(16000, "host"), (9000, "host")]


def test_a_server_in_plaintext_beside_one_with_tls_leaves_the_port_open_in_plaintext() -> None:
    labels = sidecar(stack("[{port: 443, tls: {credentialName: shop}}]"))["deploy"]["labels"]
    assert "meshpy.secured" not in labels
    assert labels["meshpy.ingress"] == "8080"


def test_every_word_of_a_server_is_read() -> None:
    servers = (
        "[{port: {number: 443, name: https, protocol: HTTPS}, hosts: [A.example.com, '*.example.com'],"
        " tls: {mode: MUTUAL, serverCertificate: both, privateKey: shop.key, caCertificates: shop.ca,"
        " subjectAltNames: [alice.test], minProtocolVersion: TLSV1_3, maxProtocolVersion: TLS_AUTO}},"
        " {port: 9000, tls: {mode: PASSTHROUGH}}]"
    )
    label = sidecar(stack(servers, '["443:8080", "9000:9000"]'))["deploy"]["labels"]["meshpy.servers"]
    mutual, passing = servers_of(label)
    (tls,) = mutual.tls
    assert (tls.hosts, tls.mode, tls.min_version) == (
        ("a.example.com", "*.example.com"), TlsMode.MUTUAL, TlsVersion.TLSV1_3
    )  # fmt: skip
    assert (tls.ca, tls.subject_alt_names) == ("/run/secrets/meshpy-tls-shop.ca", ("alice.test",))
    assert passing.tls[0].mode is TlsMode.PASSTHROUGH
    assert json.loads(label)[0]["published"] == 443


def test_labels_are_the_short_form() -> None:
    text = stack("[]", more=', meshpy.tls: "443=shop", meshpy.https_redirect: "80"')
    assert (
        sidecar(text)["deploy"]["labels"]["meshpy.servers"]
        == (sidecar(stack(HTTPS))["deploy"]["labels"]["meshpy.servers"])
    )


@pytest.mark.parametrize(
    ("servers", "says"),
    [
        ("[{port: 444, tls: {credentialName: shop}}]", "the service publishes no port 444"),
        (
            "[{port: 443, tls: {credentialName: none}}]",
            "the secret `none.crt` (a certificate) is not in the file",
        ),
        ("[{port: 443}]", "a server without `tls`"),
        ("[{port: 443, tls: {mode: SIMPLE}}]", "which certificate is not said, or said twice"),
        ("[{port: 443, tls: {mode: MUTUAL, credentialName: both}}]", "the secret `both.ca`"),
        ("[{port: 443, tls: {mode: ISTIO_MUTUAL}}]", "'ISTIO_MUTUAL' is no mode here"),
        ("[{port: 443, tls: {mode: PASSTHROUGH}}]", "its port is declared http"),
        (
            "[{port: 443, tls: {credentialName: shop, minProtocolVersion: TLSV1_1}}]",
            "'TLSV1_1' is not offered",
        ),
        ("[{port: 443, tls: {credentialName: shop, cipherSuites: [X]}}]", "'X' is not offered"),
        ("[{port: 443, hosts: [a/b.test], tls: {credentialName: shop}}]", "'a/b.test' is no host"),
        ("[{port: 80, tls: {httpsRedirect: true}}]", "there is no port with TLS to redirect to"),
        ("[{port: {number: 443, protocol: HTTP}, tls: {credentialName: shop}}]", "HTTP has no TLS"),
        (
            "[{port: 443, tls: {credentialName: shop}}, {port: 443, tls: {credentialName: both}}]",
            "port 443 has two servers for *",
        ),
        (
            "[{port: 443, tls: {credentialName: shop, subjectAltNames: [a]}}]",
            "SIMPLE asks for no certificate",
        ),
        ("{port: 443}", "a list is needed"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(servers: str, says: str) -> None:
    problem, *_ = problems(stack(servers))
    assert says in problem.what
    assert "web" in problem.place.key
    assert problem.place.line == 7


def test_a_migration_and_a_service_outside_of_the_mesh_never_answer_in_plaintext() -> None:
    (problem,) = problems(stack(HTTPS), permissive=True)
    assert "would answer there in plaintext" in problem.what
    (problem,) = problems(stack(HTTPS, more=', meshpy.enable: "false"'))
    assert "nobody would end TLS there" in problem.what


@pytest.mark.parametrize(
    ("pattern", "name", "covers"),
    [
        ("*", "", True),
        ("*.a.test", "x.a.test", True),
        ("*.a.test", "x.y.a.test", True),
        ("*.a.test", "a.test", False),
        ("*.a.test", ".a.test", False),
        ("a.test", "a.test", True),
        ("a.test", "b.a.test", False),
    ],
)
def test_hosts_mean_names(pattern: str, name: str, covers: bool) -> None:
    assert covers_host(pattern, name) is covers
