"""Istio ServiceEntry. Source: istio.io/latest/docs/reference/config/networking/service-entry.

On a Swarm the app's own look-up of a name leads to its sidecar, so a host is known by name alone: wildcards,
addresses and the original destination (`resolution: NONE`) cannot be told from a connection. NONE is read as
DNS, which reaches the address that the app would have got.
"""

from __future__ import annotations

import re

from meshpy.model.endpoint import Protocol
from meshpy.policy.kinds import Meta
from meshpy.policy.mesh_docs import EntryEndpoint, EntryPort, ServiceEntryDoc
from meshpy.policy.reader import Cursor, Fields, no_meaning
from meshpy.policy.strings import host_ref, is_address
from meshpy.policy.virtual_service import exports

__all__ = ["service_entry"]

_KNOWN = ("hosts", "ports", "location", "resolution", "endpoints", "exportTo")
_REFUSED = {
    "addresses": no_meaning("apps reach a host by its name, never by a virtual address"),
    "workloadSelector": no_meaning("services get further names by label", "write meshpy.host on the service"),
    "subjectAltNames": ("is not supported yet by meshpy", "remove it: the app checks the certificate itself"),
}
_PROTOCOLS = {
    "HTTP": Protocol.HTTP,
    "HTTP2": Protocol.HTTP2,
    "GRPC": Protocol.GRPC,
    "HTTPS": Protocol.TLS,
    "TLS": Protocol.TLS,
    "TCP": Protocol.TCP,
    "MONGO": Protocol.TCP,
}
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_ENDPOINT_REFUSED = {
    "network": no_meaning("there is one network between sidecars and the world"),
    "locality": ("is not supported yet by meshpy", "remove it"),
    "weight": ("is not supported yet by meshpy", "write subsets and weights in a VirtualService"),
    "serviceAccount": no_meaning("hosts outside the mesh have no identity of it"),
}


def service_entry(meta: Meta, spec: Cursor) -> ServiceEntryDoc:
    """Read `spec`."""
    fields = spec.fields(_KNOWN, _REFUSED)
    fields.required("hosts", "hosts: [api.example.com]")
    fields.required("ports", "ports: [{number: 443, name: tls, protocol: TLS}]")
    _location(fields)
    hosts = tuple(host_ref(item) for item in fields.items("hosts"))
    ports = tuple(_port(item) for item in fields.items("ports"))
    _check_unique(fields, ports)
    resolution = _resolution(fields)
    endpoints = tuple(_endpoint(item, ports) for item in fields.items("endpoints"))
    _check_endpoints(fields, resolution, endpoints)
    return ServiceEntryDoc(meta, hosts, ports, endpoints, exports(fields))


def _location(fields: Fields) -> None:
    cursor = fields.get("location")
    if cursor is not None and cursor.choice(("MESH_EXTERNAL", "MESH_INTERNAL")) == "MESH_INTERNAL":
        what, instead = no_meaning("what belongs to the mesh is known from Docker", "write MESH_EXTERNAL")
        cursor.problem(f"MESH_INTERNAL {what}", instead)


def _resolution(fields: Fields) -> str:
    cursor = fields.get("resolution")
    if cursor is None:
        return "NONE"
    value = cursor.choice(("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"))
    if value in ("DNS_ROUND_ROBIN", "DYNAMIC_DNS"):
        cursor.problem(
            f"{value} is not supported yet by meshpy", "write DNS: every address of the name is used"
        )
    return value


def _port(cursor: Cursor) -> EntryPort:
    fields = cursor.fields(("number", "protocol", "name", "targetPort"))
    for name, example in (("number", "443"), ("name", "tls"), ("protocol", "TLS")):
        fields.required(name, f"{name}: {example}")
    number = fields.integer("number", 1, 65535) or 1
    at_protocol = fields.get("protocol")
    protocol = Protocol.TCP
    if at_protocol is not None:
        word = at_protocol.text().upper()
        if word not in _PROTOCOLS:
            at_protocol.problem(f"{at_protocol.text()!r} is no protocol", f"write {', '.join(_PROTOCOLS)}")
        protocol = _PROTOCOLS.get(word, Protocol.TCP)
    at_name = fields.get("name")
    name = at_name.text() if at_name is not None else ""
    if at_name is not None and not _NAME.fullmatch(name):
        at_name.problem(f"{name!r} is no name of a port", "write letters, digits and -")
    return EntryPort(number, protocol, name, fields.integer("targetPort", 1, 65535) or number)


def _check_unique(fields: Fields, ports: tuple[EntryPort, ...]) -> None:
    numbers: set[int] = set()
    names: set[str] = set()
    for item, port in zip(fields.items("ports"), ports, strict=True):
        if port.number in numbers or port.name in names:
            item.problem(f"the port {port.number} or its name {port.name!r} is listed twice", "remove one")
        numbers.add(port.number)
        names.add(port.name)


def _endpoint(cursor: Cursor, ports: tuple[EntryPort, ...]) -> EntryEndpoint:
    fields = cursor.fields(("address", "ports", "labels"), _ENDPOINT_REFUSED)
    at_address = fields.required("address", "address: 192.0.2.10")
    address = at_address.text() if at_address is not None else "192.0.2.1"
    is_name = not is_address(address)
    if at_address is not None and address.startswith("unix:"):
        at_address.problem("a socket of the node has no meaning on Swarm", "write an address or a host name")
    elif at_address is not None and is_name and not _HOST.fullmatch(address):
        at_address.problem(
            f"{address!r} is no address and no host name", "write 192.0.2.10 or db.example.com"
        )
    known = [port.name for port in ports]
    found: dict[str, int] = {}
    at_ports = fields.get("ports")
    for name, value in at_ports.pairs() if at_ports is not None else ():
        if name not in known:
            value.problem(f"{name!r} is no port of the entry", f"write one of {', '.join(known)}")
        found[name] = value.integer(1, 65535)
    return EntryEndpoint(address.lower(), cursor.place, is_name, found, fields.labels("labels"))


def _check_endpoints(fields: Fields, resolution: str, endpoints: tuple[EntryEndpoint, ...]) -> None:
    cursor = fields.get("endpoints")
    if resolution == "STATIC" and not endpoints:
        fields.at.problem("resolution STATIC without endpoints", "write endpoints:, or resolution: DNS")
    if cursor is None:
        return
    if resolution == "NONE":
        cursor.problem("`endpoints` has no meaning with resolution NONE", "write resolution: STATIC or DNS")
    names = [endpoint for endpoint in endpoints if endpoint.is_name]
    if resolution == "STATIC" and names:
        cursor.problem(f"{names[0].address!r} is a name", "write addresses, or resolution: DNS")
    if names and len(endpoints) > 1:
        what = "several names, or names beside addresses, are not supported yet by meshpy"
        cursor.problem(what, "write one name, or resolution: STATIC and addresses")
