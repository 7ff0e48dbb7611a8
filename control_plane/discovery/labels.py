"""The `meshpy.*` labels that the injector writes on a sidecar's service, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping

from control_plane.errors import DiscoveryError
from meshpy.model.endpoint import Protocol
from meshpy.model.ingress import IngressServer
from meshpy.model.inventory import EgressHost, GatewayPort, Port
from meshpy.model.names import ServiceName
from meshpy.wire import WireError, decode

__all__ = [
    "bind_of",
    "egress_of",
    "gateway_of",
    "gateway_ports_of",
    "ports_of",
    "selector_labels",
    "servers_of",
    "words",
]

FOREIGN = ("com.docker.", "traefik.", "meshpy.")
"""Labels of other tools, and our own orders, are nothing to select by."""


def words(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def ports_of(labels: Mapping[str, str]) -> tuple[Port, ...]:
    """`meshpy.ports` with `meshpy.ingress` and `meshpy.proxy_protocol`.

    Raises:
        DiscoveryError: a port or protocol that does not exist.
    """
    ingress = {_number(part) for part in words(labels.get("meshpy.ingress", ""))}
    secured = {_number(part) for part in words(labels.get("meshpy.secured", ""))}
    proxied = {_number(part) for part in words(labels.get("meshpy.proxy_protocol", ""))}

    def read(part: str) -> Port:
        number, _, protocol = part.partition("/")
        port = _number(number)
        known = _protocol(protocol or "tcp")
        return Port(port, known, port in ingress, port in proxied, port in secured)

    return tuple(sorted(map(read, words(labels.get("meshpy.ports", "")))))


def servers_of(text: str) -> tuple[IngressServer, ...]:
    """`meshpy.servers`, a JSON list.

    Raises:
        DiscoveryError: it is none.
    """
    try:
        found = json.loads(text) if text else []
        return tuple(decode(IngressServer, each, f"$[{at}]") for at, each in enumerate(found))
    except (ValueError, TypeError, WireError) as error:
        raise DiscoveryError(f"meshpy.servers: {error}") from None


def gateway_ports_of(text: str) -> tuple[GatewayPort, ...]:
    """`443=16000/8080`: published, where the sidecar listens, the app's.

    Raises:
        DiscoveryError: an entry of another form.
    """
    return tuple(map(_gateway_port, words(text)))


def _gateway_port(part: str) -> GatewayPort:
    published, equals, rest = part.partition("=")
    port, slash, target = rest.partition("/")
    if not (equals and slash):
        raise DiscoveryError(f"meshpy.gateway: {part!r} is not PUBLISHED=PORT/TARGET")
    return GatewayPort(_number(published), _number(port), _number(target))


def egress_of(text: str) -> tuple[EgressHost, ...]:
    """`api.stripe.com:443/tls,smtp.x.com:587/tcp`.

    Raises:
        DiscoveryError: an entry of another form.
    """
    return tuple(map(_egress_host, words(text)))


def _egress_host(part: str) -> EgressHost:
    address, _, protocol = part.partition("/")
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise DiscoveryError(f"meshpy.egress: {part!r} is not HOST:PORT/PROTOCOL")
    return EgressHost(host, _number(port), _protocol(protocol or "tcp"))


def gateway_of(text: str) -> ServiceName | None:
    """`meshpy.egress_gateway`.

    Raises:
        DiscoveryError: it is no STACK/SERVICE.
    """
    namespace, slash, name = text.partition("/")
    if text and not (slash and namespace and name):
        raise DiscoveryError(f"meshpy.egress_gateway: {text!r} is not STACK/SERVICE")
    return ServiceName(namespace, name) if text else None


def bind_of(labels: Mapping[str, str]) -> dict[str, str]:
    """Where the sidecar listens for its app: the pod network, and one more per clash of ports.

    Raises:
        DiscoveryError: an entry of `meshpy.binds` without `=`.
    """
    bind = {"": labels["meshpy.pod"]} if labels.get("meshpy.pod") else {}
    for part in words(labels.get("meshpy.binds", "")):
        host, equals, network = part.partition("=")
        if not equals or not network:
            raise DiscoveryError(f"meshpy.binds: {part!r} is not HOST=NETWORK")
        bind[host] = network
    return bind


def selector_labels(labels: Mapping[str, str], namespace: str, service: str) -> dict[str, str]:
    """The app's own labels, with `app`, `service` and `stack` where they are not set."""
    own = {key: value for key, value in labels.items() if not key.startswith(FOREIGN)}
    return {"app": service, "service": service, "stack": namespace, **own}


def _number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise DiscoveryError(f"{text!r} is no port")
    return int(text)


def _protocol(text: str) -> Protocol:
    try:
        return Protocol(text)
    except ValueError:
        raise DiscoveryError(f"{text!r} is no protocol; {', '.join(Protocol)} are") from None
