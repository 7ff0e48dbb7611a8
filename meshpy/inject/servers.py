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
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from meshpy.errors import Place, Problem
from meshpy.inject.place_tree import cursor_at
from meshpy.inject.stackfile import StackFile
from meshpy.inject.words import Orders
from meshpy.model.ingress import SECRETS, ServerTls, TlsMode
from meshpy.policy.gateway_kinds import ScopedHost, ServerDoc, TlsDoc
from meshpy.policy.gateway_servers import server
from meshpy.policy.reader import Report

__all__ = ["ServerOrder", "missing_secrets", "secret_of", "secrets_in", "servers_ordered"]

_LABEL = re.compile(r"(\d{1,5})=([A-Za-z0-9._-]+)")


@dataclass(frozen=True, slots=True)
class ServerOrder:
    """One server as ordered.

    Args:
        published: the port that callers outside use.
        protocol: `HTTPS`, `TLS` or `HTTP` where it is said; else "".
        tls: None for one that redirects.
        place: in the file, for what turns out to be wrong with it later.
    """

    published: int
    protocol: str
    tls: ServerTls | None
    place: Place


def secret_of(path: str) -> str:
    """The key of the secret behind a path that `servers_ordered` gave."""
    return path.removeprefix(SECRETS)


def secrets_in(stack: StackFile) -> Collection[str]:
    """The keys of the file's `secrets`."""
    found = stack.value.get("secrets")
    return found.keys() if isinstance(found, dict) else ()


def missing_secrets(tls: TlsDoc, known: Collection[str]) -> Iterator[Problem]:
    """Those that a server names and the file has not."""
    for key, what in tls.secrets(known):
        if key and key not in known:
            instead = f"write {key}: {{file: ./{key}}} (or external: true) below the root `secrets`"
            yield Problem(tls.place, f"the secret `{key}` ({what}) is not in the file", instead)


def servers_ordered(
    stack: StackFile, name: str, orders: Orders
) -> tuple[tuple[ServerOrder, ...], list[Problem]]:
    """Every server of a service, and all that is wrong with what the file says of them."""
    report, known = Report(stack.file), secrets_in(stack)
    said = cursor_at(stack, ("services", name, "x-mesh", "servers"), report)
    read = [server(item, is_document=False) for item in (said.items(empty=True) if said is not None else ())]
    documents = [each for each in read if each is not None]
    documents += _labels(stack, report, name, orders)
    problems = report.problems or [
        problem for each in documents if each.tls for problem in missing_secrets(each.tls, known)
    ]
    found = tuple(_order(each, known) for each in documents)
    return found, [*problems, *([] if problems else _no_host_twice(found))]


def _order(document: ServerDoc, known: Collection[str]) -> ServerOrder:
    hosts = tuple(each.host for each in document.hosts)
    tls = document.tls.settled(hosts, known) if document.tls is not None else None
    return ServerOrder(document.port, document.protocol, tls, document.place)


def _labels(stack: StackFile, report: Report, name: str, orders: Orders) -> Iterator[ServerDoc]:
    places = orders.places or {}
    anyone = (ScopedHost("*"),)
    for text in orders.tls:
        place = stack.place(places.get("tls", ("services", name)))
        match = _LABEL.fullmatch(text)
        if match is None or not 0 < int(match[1]) < 65536:
            what = f"{text!r} is no server"
            report.problems.append(Problem(place, what, "write it as 443=CREDENTIAL: the published port"))
            continue
        yield ServerDoc(place, int(match[1]), "", anyone, TlsDoc(place, TlsMode.SIMPLE, match[2]))
    for port in orders.https_redirect:
        place = stack.place(places.get("https_redirect", ("services", name)))
        yield ServerDoc(place, port, "HTTP", anyone, redirects=True)


def _no_host_twice(servers: Sequence[ServerOrder]) -> Iterator[Problem]:
    seen: set[tuple[int, str]] = set()
    for each in servers:
        hosts = each.tls.hosts if each.tls is not None else ("*", "")
        for host in hosts:
            if (each.published, host) in seen or (each.published, "") in seen:
                what = f"port {each.published} has two servers for {host or 'plain HTTP'}"
                yield Problem(each.place, what, "remove one of them, or give it hosts of its own")
                break
        else:
            seen |= {(each.published, host) for host in hosts}
