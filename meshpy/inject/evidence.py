"""What a service listens on, and how the file shows it (DESIGN §3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshpy.inject.images import CLIENT_COMMANDS, PORTS_BY_NUMBER, image_name, well_known_ports
from meshpy.inject.interpolation import substitute
from meshpy.inject.mentions import Mention
from meshpy.inject.published import Published
from meshpy.inject.words import PortWord, pairs, parse_ports, text_of
from meshpy.model.endpoint import Protocol

__all__ = ["PortFact", "listens_on_nothing", "port_facts"]

TRAEFIK_PORT = re.compile(
    r"traefik\.(?:http\.services\.[^.]+\.loadbalancer\.server\.port|(?:[^.]+\.)?port)", re.IGNORECASE
)
TRAEFIK_TCP = re.compile(r"traefik\.tcp\.services\.[^.]+\.loadbalancer\.server\.port", re.IGNORECASE)
TRAEFIK_SCHEME = re.compile(r"traefik\.http\.services\.[^.]+\.loadbalancer\.server\.scheme", re.IGNORECASE)
DFP_PORT = re.compile(r"com\.df\.port(?:\.\d+)?")
CADDY_UPSTREAM = re.compile(r"\{\{\s*upstreams?(?:\s+(?P<scheme>https?|h2c))?\s+(?P<port>\d+)\s*\}\}")
LOCAL_URL = re.compile(
    r"(?P<scheme>https?)://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::(?P<port>\d+))?"
)


@dataclass(frozen=True, slots=True)
class PortFact:
    """A port with what shows it. `text` is what a label carries: the number, or the file's own variable."""

    number: int
    protocol: Protocol
    evidence: str
    text: str = ""
    published: bool = False


@dataclass(slots=True)
class _Found:
    evidence: str
    protocol: Protocol | None
    protocol_evidence: str
    text: str
    published: bool = False


def port_facts(
    service: Mapping[str, Any],
    ordered: tuple[PortWord, ...] | None,
    published: Sequence[Published],
    callers: Iterable[Mention],
    outside: Iterable[tuple[PortWord, str]] = (),
) -> tuple[PortFact, ...]:
    """Every port of a service, from the strongest evidence to the weakest; the first one names a port.

    Args:
        ordered: the user's `meshpy.ports`; what is published is added, nothing else.
        callers: mentions of this service by any service that can reach it, itself included.
        outside: ports that env files and the image itself show, with the evidence.
    """
    found: dict[int, _Found] = {}

    def add(number: int, protocol: Protocol | None, evidence: str, text: str = "") -> None:
        if number not in found:
            found[number] = _Found(evidence, protocol, evidence, text or str(number))
        elif found[number].protocol is None and protocol is not None:
            found[number].protocol, found[number].protocol_evidence = protocol, evidence

    for word in ordered or ():
        add(word.number, word.protocol, "meshpy.ports", word.text)
    if ordered is None:
        _exposed(service, add)
    for port in published:
        if port.protocol == "tcp":
            add(port.target, None, "ports", port.target_text)
            found[port.target].published = True
    _proxy_labels(service, add, only_known=ordered is not None, known=found)
    if ordered is None:
        for mention in callers:
            if mention.port:
                add(mention.port, mention.protocol, mention.where)
        _healthcheck(service, add)
        for word, evidence in outside:
            add(word.number, word.protocol, evidence, word.text)
        image = text_of(service.get("image"))
        image = substitute(image) or image
        for word in parse_ports(well_known_ports(image)):
            add(word.number, word.protocol, f"image {image_name(image)}", word.text)
    return tuple(_fact(number, item) for number, item in sorted(found.items()))


def _fact(number: int, item: _Found) -> PortFact:
    protocol, evidence = item.protocol, item.evidence
    if protocol is None and number in PORTS_BY_NUMBER:
        protocol, evidence = Protocol(PORTS_BY_NUMBER[number]), f"{evidence}; protocol by convention"
    elif protocol is None:
        protocol, evidence = Protocol.TCP, f"{evidence}; protocol unknown, so opaque"
    elif item.protocol_evidence != evidence:
        evidence = f"{evidence}; {item.protocol_evidence}"
    return PortFact(number, protocol, evidence, item.text, item.published)


def _exposed(service: Mapping[str, Any], add: Any) -> None:
    for entry in service.get("expose") or ():
        number = (substitute(text_of(entry)) or "").removesuffix("/tcp")
        first, _, last = number.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            for port in range(int(first), int(last or first) + 1):
                add(port, None, "expose")


def _proxy_labels(
    service: Mapping[str, Any], add: Any, *, only_known: bool, known: Mapping[int, _Found]
) -> None:
    deploy = service.get("deploy") or {}
    labels = list(pairs(deploy.get("labels"))) + list(pairs(service.get("labels")))
    tls = any(TRAEFIK_SCHEME.fullmatch(label) and text.lower() == "https" for label, text, _ in labels)
    http = Protocol.TLS if tls else Protocol.HTTP
    for label, text, _ in labels:
        value = substitute(text) or ""
        if TRAEFIK_PORT.fullmatch(label) or DFP_PORT.fullmatch(label):
            number, protocol = value, http
        elif TRAEFIK_TCP.fullmatch(label):
            number, protocol = value, Protocol.TCP
        elif label.startswith("caddy") and (match := CADDY_UPSTREAM.search(value)):
            number, protocol = match["port"], Protocol.TLS if match["scheme"] == "https" else Protocol.HTTP
        else:
            continue
        if number.isdecimal() and 0 < int(number) < 65536 and (not only_known or int(number) in known):
            add(int(number), protocol, f"label {label}", text if text != value else "")


def _healthcheck(service: Mapping[str, Any], add: Any) -> None:
    test = (service.get("healthcheck") or {}).get("test")
    text = " ".join(text_of(item) for item in test) if isinstance(test, list) else text_of(test)
    for match in LOCAL_URL.finditer(substitute(text) or text):
        port = int(match["port"] or (443 if match["scheme"] == "https" else 80))
        add(port, Protocol.TLS if match["scheme"] == "https" else Protocol.HTTP, "healthcheck")


def listens_on_nothing(service: Mapping[str, Any]) -> str:
    """Why a service needs no port: a job, or a command that only calls others; empty when it may listen."""
    mode = text_of((service.get("deploy") or {}).get("mode"))
    if mode.endswith("-job"):
        return f"a {mode}"
    value = service.get("command")
    text = " ".join(text_of(item) for item in value) if isinstance(value, list) else text_of(value)
    match = CLIENT_COMMANDS.search(text)
    return f"its command runs {match[0].strip()}" if match else ""
