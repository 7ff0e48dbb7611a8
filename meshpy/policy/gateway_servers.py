"""Servers in the words of Istio's Gateway: those of the kind, and of `x-mesh.servers` in a stack file.

Source: istio.io/latest/docs/reference/config/networking/gateway.
"""

from __future__ import annotations

import re

from meshpy.model.ingress import CIPHERS, TlsMode, TlsVersion
from meshpy.policy.documents import Mapping
from meshpy.policy.gateway_kinds import GatewayDoc, ScopedHost, ServerDoc, TlsDoc
from meshpy.policy.meta import Meta
from meshpy.policy.reader import Cursor, Fields, Refusal

__all__ = ["gateway", "server"]

_OF_DOCUMENT = ("HTTP", "HTTPS", "HTTP2", "GRPC", "TLS", "TCP")
_OF_STACK_FILE = ("HTTP", "HTTPS", "TLS")
_VERSIONS = {"TLS_AUTO": None, "TLSV1_2": TlsVersion.TLSV1_2, "TLSV1_3": TlsVersion.TLSV1_3}
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?")
_NAMESPACE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?|[.*]")
_SECRET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
_SERVER = ("port", "name", "hosts", "tls")
_SERVER_REFUSED: dict[str, Refusal] = {
    "bind": ("has no place here", "remove it: the sidecar listens wherever published ports lead"),
    "defaultEndpoint": ("has no place here", "remove it: `ports:` names the app's port"),
}
_TLS = (
    "mode", "httpsRedirect", "credentialName", "serverCertificate", "privateKey", "caCertificates",
    "subjectAltNames", "minProtocolVersion", "maxProtocolVersion", "cipherSuites",
)  # fmt: skip
_PINS = "is not offered: roots and names tell who is let in"
_TLS_REFUSED: dict[str, Refusal] = {
    "verifyCertificateSpki": (_PINS, "write caCertificates and subjectAltNames"),
    "verifyCertificateHash": (_PINS, "write caCertificates and subjectAltNames"),
    "caCertCredentialName": ("is not read here", "write caCertificates: the key of a secret"),
    "caCrl": ("is not offered: nobody would renew the list", "remove it"),
    "credentialNames": ("is not offered", "write credentialName, or one server for each host"),
    "tlsCertificates": ("is not offered", "write credentialName, or one server for each host"),
}


def gateway(meta: Meta, spec: Cursor) -> GatewayDoc:
    """Istio's Gateway."""
    fields = spec.fields(("selector", "servers"))
    selector = fields.required("selector", "selector: {app: my-service}, labels of who publishes the ports")
    if selector is not None and not fields.labels("selector"):
        selector.problem("picks every service of the stack", "write labels: {app: my-service}")
    fields.required(
        "servers", "servers: [{port: {number: 443, protocol: HTTPS}, hosts: [shop.example.com], …}]"
    )
    found = [server(item, is_document=True) for item in fields.items("servers")]
    return GatewayDoc(meta, tuple(each for each in found if each is not None), fields.labels("selector"))


def server(cursor: Cursor, *, is_document: bool) -> ServerDoc | None:
    """Read one server.

    Args:
        is_document: of a Gateway, where hosts are demanded and ports in plaintext have servers too.
    """
    fields = cursor.fields(_SERVER, _SERVER_REFUSED)
    number, protocol = _port(fields, is_document=is_document)
    hosts = _hosts(fields, is_document=is_document)
    at_tls = fields.get("tls")
    name = fields.text("name")
    if at_tls is None:
        return _without_tls(cursor, number, protocol, hosts, name, is_document=is_document)
    tls = at_tls.fields(_TLS, _TLS_REFUSED)
    if tls.boolean("httpsRedirect"):
        _check_redirect(tls, fields, protocol, hosts, is_document=is_document)
        return ServerDoc(cursor.place, number, "HTTP", hosts, None, redirects=True, name=name)
    at_port = fields.get("port")
    if protocol in ("HTTP", "HTTP2", "GRPC", "TCP") and at_port is not None:
        at_port.problem(f"{protocol} has no TLS", "write protocol: HTTPS, or httpsRedirect: true")
    if is_document and "mode" not in tls:
        what = "`mode` is missing, which is PASSTHROUGH with Istio"
        at_tls.problem(what, "write mode: SIMPLE, or mode: PASSTHROUGH where the app ends TLS itself")
    return ServerDoc(cursor.place, number, protocol, hosts, _tls(tls), name=name)


def _without_tls(
    cursor: Cursor, number: int, protocol: str, hosts: tuple[ScopedHost, ...], name: str, *, is_document: bool
) -> ServerDoc | None:
    if not is_document:
        instead = "write tls: {mode: SIMPLE, credentialName: NAME}; a port in plaintext needs no server"
        cursor.problem("a server without `tls`", instead)
        return None
    if protocol in ("HTTPS", "TLS"):
        cursor.problem(f"{protocol} without `tls`", "write tls: {mode: SIMPLE, credentialName: NAME}")
    if protocol == "TCP" and any(each.host != "*" for each in hosts):
        cursor.problem("bytes in plaintext name no host", 'write hosts: ["*"]')
    return ServerDoc(cursor.place, number, protocol, hosts, name=name)


def _check_redirect(
    tls: Fields, fields: Fields, protocol: str, hosts: tuple[ScopedHost, ...], *, is_document: bool
) -> None:
    for name in tls:
        if name != "httpsRedirect" and (extra := tls.get(name)) is not None:
            extra.problem("a port that redirects ends no TLS", "remove it")
    at_port, at_hosts = fields.get("port"), fields.get("hosts")
    if protocol not in ("", "HTTP") and at_port is not None:
        at_port.problem(f"{protocol} does not redirect to HTTPS", "write protocol: HTTP")
    if not is_document and at_hosts is not None and any(each.host != "*" for each in hosts):
        at_hosts.problem("a port redirects every host", "remove `hosts`")


def _port(fields: Fields, *, is_document: bool) -> tuple[int, str]:
    cursor = fields.required("port", "port: {number: 443, protocol: HTTPS}" if is_document else "port: 443")
    if cursor is None:
        return 0, ""
    if not isinstance(cursor.node, Mapping) and not is_document:
        return cursor.integer(1, 65535), ""
    elsewhere = {"targetPort": ("stands in `ports:` of the stack file", "remove it")}
    inner = cursor.fields(("number", "name", "protocol"), elsewhere)
    number = inner.required("number", "number: 443")
    said = inner.required("protocol", "protocol: HTTPS") if is_document else inner.get("protocol")
    inner.text("name")
    known = _OF_DOCUMENT if is_document else _OF_STACK_FILE
    protocol = said.text().upper() if said is not None else ""
    if said is not None and protocol not in known:
        said.problem(f"{said.text()!r} is none of {', '.join(known)}", f"write one of {', '.join(known)}")
    return number.integer(1, 65535) if number is not None else 0, protocol


def _hosts(fields: Fields, *, is_document: bool) -> tuple[ScopedHost, ...]:
    if is_document:
        fields.required("hosts", 'hosts: [shop.example.com], or ["*"] for every name')
    found = []
    for item in fields.items("hosts"):
        written = item.text()
        namespace, slash, host = written.rpartition("/")
        host = host.lower()
        if slash and not is_document:
            item.problem(f"{written!r} is no host", "write the host without Istio's NAMESPACE/")
        elif slash and not _NAMESPACE.fullmatch(namespace):
            item.problem(f"{namespace!r} is no namespace", "write STACK/HOST, ./HOST or */HOST")
        elif host != "*" and not _HOST.fullmatch(host.removeprefix("*.")):
            item.problem(f"{written!r} is no host", "write shop.example.com, *.example.com or *")
        found.append(ScopedHost(host, namespace if slash else "*"))
    return tuple(dict.fromkeys(found)) or (ScopedHost("*"),)


def _tls(fields: Fields) -> TlsDoc:
    at_mode = fields.get("mode")
    word = at_mode.text() if at_mode is not None else TlsMode.SIMPLE
    if at_mode is not None and word not in tuple(TlsMode):
        at_mode.problem(f"{word!r} is no mode here", f"write one of {', '.join(TlsMode)}")
    mode = TlsMode(word) if word in tuple(TlsMode) else TlsMode.SIMPLE
    lowest = _version(fields, "minProtocolVersion") or TlsVersion.TLSV1_2
    highest = _version(fields, "maxProtocolVersion") or TlsVersion.TLSV1_3
    at_highest = fields.get("maxProtocolVersion")
    if lowest > highest and at_highest is not None:
        at_highest.problem("is below minProtocolVersion", "write TLSV1_3")
    found = TlsDoc(
        fields.at.place,
        mode,
        _secret(fields, "credentialName"),
        _secret(fields, "serverCertificate"),
        _secret(fields, "privateKey"),
        _secret(fields, "caCertificates"),
        tuple(item.text() for item in fields.items("subjectAltNames")),
        lowest,
        highest,
        _ciphers(fields, lowest),
    )
    if at_mode is None or word in tuple(TlsMode):
        _check(fields, found)
    return found


def _check(fields: Fields, tls: TlsDoc) -> None:
    """Keys of a mode that has no use for them, and certificates that are named twice or not at all."""
    if tls.mode is TlsMode.PASSTHROUGH:
        for name in fields:
            if name not in ("mode", "httpsRedirect") and (extra := fields.get(name)) is not None:
                extra.problem("with PASSTHROUGH the app ends TLS itself", "remove it")
        return
    named = tls.certificate or tls.key
    if bool(tls.credential) == bool(named):
        instead = "write credentialName: NAME, or serverCertificate: and privateKey: with keys of secrets"
        fields.at.problem("which certificate is not said, or said twice", instead)
    elif named and not (tls.certificate and tls.key):
        fields.at.problem("a certificate and its key belong together", "write the other one too")
    if tls.mode.asks_certificate:
        if not tls.ca and not tls.credential:
            instead = "write caCertificates: with the key of a secret"
            fields.at.problem(f"{tls.mode} needs the roots of callers' certificates", instead)
        return
    for name in ("caCertificates", "subjectAltNames"):
        if (extra := fields.get(name)) is not None:
            extra.problem(f"{tls.mode} asks for no certificate", "write mode: MUTUAL")


def _version(fields: Fields, name: str) -> TlsVersion | None:
    cursor = fields.get(name)
    if cursor is None:
        return None
    word = cursor.text()
    if word not in _VERSIONS:
        cursor.problem(f"{word!r} is not offered", "write TLSV1_2 or TLSV1_3")
    return _VERSIONS.get(word)


def _ciphers(fields: Fields, lowest: TlsVersion) -> tuple[str, ...]:
    """Of TLS 1.2 alone, as with Envoy: those of 1.3 are not for anybody to choose."""
    cursor = fields.get("cipherSuites")
    if cursor is None:
        return ()
    if lowest is TlsVersion.TLSV1_3:
        cursor.problem("speaks of TLS 1.2, which minProtocolVersion shuts out", "remove it")
    found = []
    for item in cursor.items():
        if item.text() not in CIPHERS:
            item.problem(f"{item.text()!r} is not offered", f"write one of {', '.join(CIPHERS)}")
        found.append(item.text())
    return tuple(dict.fromkeys(found))


def _secret(fields: Fields, name: str) -> str:
    """The key of a secret; Istio's paths of files mean nothing here."""
    cursor = fields.get(name)
    if cursor is None:
        return ""
    text = cursor.text()
    if not _SECRET.fullmatch(text):
        cursor.problem(f"{text!r} is no key of a secret", "write a key of the stack's `secrets`")
    return text
