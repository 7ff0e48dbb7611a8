"""TLS at published ports: `x-mesh.servers` of a service, in the words of Istio's Gateway, and its two labels.

    servers:
      - port: 443                        # the published one; Istio's {number: 443, protocol: HTTPS} too
        hosts: [shop.example.com]
        tls: {mode: SIMPLE, credentialName: shop}
      - port: 80
        tls: {httpsRedirect: true}

`meshpy.tls: "443=shop"` and `meshpy.https_redirect: "80"` are the short forms. A credential is two secrets of
the file, `shop.crt` and `shop.key` (`shop.ca` with MUTUAL), or one, `shop`, with both in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshpy.errors import Problem
from meshpy.inject.stackfile import StackFile
from meshpy.inject.words import HOST, Orders, text_of
from meshpy.model.ingress import KeyPair, ServerTls, TlsMode, TlsVersion

__all__ = [
    "SECRETS",
    "SERVER_KEYS",
    "TLS_KEYS",
    "VERSIONS",
    "ServerOrder",
    "secret_of",
    "servers_ordered",
]

SECRETS = "/run/secrets/meshpy-tls-"
"""Where a sidecar finds the secret of a key."""

Path = tuple[str | int, ...]

_PROTOCOLS = ("HTTP", "HTTPS", "TLS")
_NOT_HERE = {
    "bind": "the sidecar listens at every address that published ports lead to",
    "defaultEndpoint": "a server leads to the app's port that `ports:` names",
    "cipherSuites": "ECDHE with AES-GCM or ChaCha20 are offered, nothing else",
    "verifyCertificateSpki": "write caCertificates and subjectAltNames",
    "verifyCertificateHash": "write caCertificates and subjectAltNames",
    "caCertCredentialName": "write caCertificates: the key of a secret",
    "credentialNames": "write credentialName, or one server for each host",
}
SERVER_KEYS = ("port", "name", "hosts", "tls")
TLS_KEYS = (
    "mode", "httpsRedirect", "credentialName", "serverCertificate", "privateKey", "caCertificates",
    "subjectAltNames", "minProtocolVersion", "maxProtocolVersion",
)  # fmt: skip
VERSIONS = {"TLS_AUTO": None, "TLSV1_2": TlsVersion.TLSV1_2, "TLSV1_3": TlsVersion.TLSV1_3}
_LABEL = re.compile(r"(\d{1,5})=([A-Za-z0-9._-]+)")


@dataclass(frozen=True, slots=True)
class ServerOrder:
    """One server as ordered.

    Args:
        published: the port that callers outside use.
        protocol: `HTTPS`, `TLS` or `HTTP` where it is said; else "".
        tls: None for one that redirects.
        place: the path in the file, for what turns out to be wrong with it later.
    """

    published: int
    protocol: str
    tls: ServerTls | None
    place: Path


def secret_of(path: str) -> str:
    """The key of the secret behind a path that `servers_ordered` gave."""
    return path.removeprefix(SECRETS)


@dataclass(slots=True)
class _Reading:
    stack: StackFile
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, path: Path, what: str, instead: str = "") -> None:
        self.problems.append(self.stack.problem(path, what, instead))

    @property
    def secrets(self) -> Mapping[str, Any]:
        found = self.stack.value.get("secrets")
        return found if isinstance(found, dict) else {}


def servers_ordered(
    stack: StackFile, name: str, orders: Orders
) -> tuple[tuple[ServerOrder, ...], list[Problem]]:
    """Every server of a service, and all that is wrong with what the file says of them."""
    reading = _Reading(stack)
    path: Path = ("services", name, "x-mesh", "servers")
    extension = stack.get(path[:-1])
    said = extension.get("servers") if isinstance(extension, dict) else None
    found: list[ServerOrder] = []
    if said is not None and not isinstance(said, list):
        reading.wrong(path, "must be a list", "write - port: 443 and so on below it")
    for index, item in enumerate(said if isinstance(said, list) else ()):
        found += _server(reading, item, (*path, index))
    found += _labels(reading, name, orders)
    _no_host_twice(reading, found)
    return tuple(found), reading.problems


def _labels(reading: _Reading, name: str, orders: Orders) -> Iterator[ServerOrder]:
    places = orders.places or {}
    for text in orders.tls:
        path = places.get("tls", ("services", name))
        match = _LABEL.fullmatch(text)
        if match is None or not 0 < int(match[1]) < 65536:
            reading.wrong(path, f"{text!r} is no server", "write it as 443=CREDENTIAL: the published port")
            continue
        tls = _tls(reading, {"mode": "SIMPLE", "credentialName": match[2]}, path, ("*",))
        if tls is not None:
            yield ServerOrder(int(match[1]), "", tls, path)
    for port in orders.https_redirect:
        yield ServerOrder(port, "HTTP", None, places.get("https_redirect", ("services", name)))


def _server(reading: _Reading, item: Any, path: Path) -> Iterator[ServerOrder]:
    if not _is_known(reading, item, path, SERVER_KEYS):
        return
    published, protocol = _port(reading, item.get("port"), (*path, "port"))
    hosts = _hosts(reading, item.get("hosts"), (*path, "hosts"))
    tls = item.get("tls")
    if tls is None:
        instead = "write tls: {mode: SIMPLE, credentialName: NAME}; a port in plaintext needs no server"
        reading.wrong(path, "a server without `tls`", instead)
        return
    if not _is_known(reading, tls, (*path, "tls"), TLS_KEYS) or not published or not hosts:
        return
    if tls.get("httpsRedirect") is True:
        if others := sorted(tls.keys() - {"httpsRedirect"}):
            reading.wrong((*path, "tls", others[0]), "a port that redirects ends no TLS", "remove it")
        elif hosts != ("*",):
            reading.wrong((*path, "hosts"), "a port redirects every host", "remove `hosts`")
        elif protocol not in ("", "HTTP"):
            reading.wrong((*path, "port"), f"{protocol} does not redirect to HTTPS", "write protocol: HTTP")
        else:
            yield ServerOrder(published, "HTTP", None, path)
        return
    if tls.get("httpsRedirect") not in (None, False):
        reading.wrong((*path, "tls", "httpsRedirect"), "must be true or false")
    elif protocol == "HTTP":
        reading.wrong((*path, "port"), "HTTP has no TLS", "write protocol: HTTPS, or httpsRedirect: true")
    elif (found := _tls(reading, tls, (*path, "tls"), hosts)) is not None:
        yield ServerOrder(published, protocol, found, path)


def _is_known(reading: _Reading, item: Any, path: Path, known: Sequence[str]) -> bool:
    if not isinstance(item, dict):
        reading.wrong(path, "must be a mapping", f"it has {', '.join(known)}")
        return False
    for key in item:
        if key in _NOT_HERE:
            reading.wrong((*path, key), f"the mesh has no `{key}`", _NOT_HERE[key])
        elif key not in known:
            reading.wrong((*path, key), f"the mesh knows no `{key}`", f"it knows {', '.join(known)}")
    return all(key in known for key in item)


def _port(reading: _Reading, value: Any, path: Path) -> tuple[int, str]:
    protocol = ""
    if isinstance(value, dict):
        if unknown := [key for key in value if key not in ("number", "name", "protocol", "targetPort")]:
            reading.wrong(
                (*path, unknown[0]), f"the mesh knows no `{unknown[0]}`", "it knows number, protocol"
            )
        if "targetPort" in value:
            reading.wrong((*path, "targetPort"), "the app's port stands in `ports:`", "remove it")
        protocol = text_of(value.get("protocol")).upper()
        if protocol not in ("", *_PROTOCOLS):
            reading.wrong((*path, "protocol"), f"{protocol!r} is none of {', '.join(_PROTOCOLS)}")
        value = value.get("number")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        reading.wrong(path, f"{text_of(value)!r} is no published port", "write port: 443")
        return 0, protocol
    return value, protocol


def _hosts(reading: _Reading, value: Any, path: Path) -> tuple[str, ...]:
    if value is None:
        return ("*",)
    found = []
    for index, item in enumerate(value if isinstance(value, list) else [None]):
        text = text_of(item).lower()
        if text != "*" and not HOST.fullmatch(text.removeprefix("*.")):
            instead = "write shop.example.com, *.example.com or * (without Istio's NAMESPACE/)"
            reading.wrong((*path, index), f"{text!r} is no host", instead)
            return ()
        found.append(text)
    if not found:
        reading.wrong(path, "no host", "leave `hosts` out, or write a name")
    return tuple(dict.fromkeys(found))


def _tls(reading: _Reading, said: Mapping[str, Any], path: Path, hosts: tuple[str, ...]) -> ServerTls | None:
    before = len(reading.problems)
    mode = text_of(said.get("mode")) or "SIMPLE"
    if mode not in tuple(TlsMode):
        instead = f"write one of {', '.join(TlsMode)}"
        reading.wrong((*path, "mode") if "mode" in said else path, f"{mode!r} is no mode here", instead)
        return None
    kind = TlsMode(mode)
    pairs: tuple[KeyPair, ...] = ()
    if kind is TlsMode.PASSTHROUGH:
        for key in sorted(said.keys() - {"mode", "httpsRedirect"}):
            reading.wrong((*path, key), "with PASSTHROUGH the app ends TLS itself", "remove it")
    else:
        pairs = _pairs(reading, said, path)
    roots = _roots(reading, said, path, kind)
    lowest = _version(reading, said, "minProtocolVersion", path) or TlsVersion.TLSV1_2
    highest = _version(reading, said, "maxProtocolVersion", path) or TlsVersion.TLSV1_3
    if lowest > highest:
        reading.wrong((*path, "maxProtocolVersion"), "is below minProtocolVersion")
    names = said.get("subjectAltNames")
    if names is not None and (
        not isinstance(names, list) or not all(isinstance(each, str) for each in names)
    ):
        reading.wrong((*path, "subjectAltNames"), "must be a list of names")
    elif names and not kind.asks_certificate:
        reading.wrong((*path, "subjectAltNames"), f"{kind} asks for no certificate", "write mode: MUTUAL")
    if len(reading.problems) > before:
        return None
    return ServerTls(hosts, kind, pairs, roots, tuple(names or ()), lowest, highest)


def _version(reading: _Reading, said: Mapping[str, Any], key: str, path: Path) -> TlsVersion | None:
    text = text_of(said.get(key)) or "TLS_AUTO"
    if text not in VERSIONS:
        reading.wrong((*path, key), f"{text!r} is not offered", "write TLSV1_2 or TLSV1_3")
    return VERSIONS.get(text)


def _pairs(reading: _Reading, said: Mapping[str, Any], path: Path) -> tuple[KeyPair, ...]:
    credential = text_of(said.get("credentialName"))
    certificate, key = text_of(said.get("serverCertificate")), text_of(said.get("privateKey"))
    if bool(credential) == bool(certificate or key):
        instead = "write credentialName: NAME, or serverCertificate: and privateKey: with keys of secrets"
        reading.wrong(path, "which certificate is not said, or said twice", instead)
        return ()
    if credential and credential in reading.secrets:
        certificate = key = credential
    elif credential:
        certificate, key = f"{credential}.crt", f"{credential}.key"
    elif not (certificate and key):
        reading.wrong(path, "a certificate and its key belong together", "write the other one too")
        return ()
    _is_there(reading, path, certificate, "a certificate")
    _is_there(reading, path, key, "its key")
    return (KeyPair(SECRETS + certificate, SECRETS + key),)


def _roots(reading: _Reading, said: Mapping[str, Any], path: Path, mode: TlsMode) -> str:
    named = text_of(said.get("caCertificates"))
    if not mode.asks_certificate:
        if named:
            reading.wrong((*path, "caCertificates"), f"{mode} asks for no certificate", "write mode: MUTUAL")
        return ""
    credential = text_of(said.get("credentialName"))
    if not named and not credential:
        instead = "write caCertificates: with the key of a secret"
        reading.wrong(path, f"{mode} needs the roots of callers' certificates", instead)
        return ""
    key = named or next((k for k in (f"{credential}.ca", f"{credential}-cacert") if k in reading.secrets), "")
    key = key or f"{credential}.ca"
    _is_there(reading, path, key, "the roots of callers' certificates")
    return SECRETS + key


def _is_there(reading: _Reading, path: Path, key: str, what: str) -> None:
    if key not in reading.secrets:
        instead = f"write {key}: {{file: ./{key}}} (or external: true) below the root `secrets`"
        reading.wrong(path, f"the secret `{key}` ({what}) is not in the file", instead)


def _no_host_twice(reading: _Reading, servers: Sequence[ServerOrder]) -> None:
    seen: set[tuple[int, str]] = set()
    for each in servers:
        for host in each.tls.hosts if each.tls is not None else ("*", ""):
            if (each.published, host) in seen or (each.published, "") in seen:
                reading.wrong(each.place, f"port {each.published} has two servers for {host or 'plain HTTP'}")
                break
        else:
            seen |= {(each.published, host) for host in (each.tls.hosts if each.tls else ("*", ""))}
