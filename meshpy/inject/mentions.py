"""Which hosts a service names in its environment and commands, on which ports, in which protocols."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshpy.inject.interpolation import UNKNOWN, substitute, substitute_known
from meshpy.inject.words import pairs, text_of
from meshpy.model.endpoint import Protocol

__all__ = ["Mention", "mentions_of", "text_mentions"]

SCHEMES: Mapping[str, tuple[int, Protocol]] = {
    "http": (80, Protocol.HTTP),
    "ws": (80, Protocol.HTTP),
    "https": (443, Protocol.TLS),
    "wss": (443, Protocol.TLS),
    "grpc": (0, Protocol.GRPC),
    "h2c": (0, Protocol.HTTP2),
    "redis": (6379, Protocol.TCP),
    "rediss": (6379, Protocol.TLS),
    "postgres": (5432, Protocol.TCP),
    "postgresql": (5432, Protocol.TCP),
    "mysql": (3306, Protocol.TCP),
    "mariadb": (3306, Protocol.TCP),
    "mongodb": (27017, Protocol.TCP),
    "amqp": (5672, Protocol.TCP),
    "amqps": (5671, Protocol.TLS),
    "nats": (4222, Protocol.TCP),
    "mqtt": (1883, Protocol.TCP),
    "smtp": (25, Protocol.TCP),
    "ldap": (389, Protocol.TCP),
    "ldaps": (636, Protocol.TLS),
    "bolt": (7687, Protocol.TCP),
    "memcached": (11211, Protocol.TCP),
    "clickhouse": (9000, Protocol.TCP),
    "sqlserver": (1433, Protocol.TCP),
}
NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
END = rf"(?![\w.{UNKNOWN}-])"
URL = re.compile(
    rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^\s/@\"',]*@)?"
    rf"(?P<hosts>{NAME}(?::\d+)?(?:,{NAME}(?::\d+)?)*){END}"
)
HOST_PORT = re.compile(rf"(?<![\w./:{UNKNOWN}-])(?P<host>{NAME}):(?P<port>\d{{2,5}})(?![\w.:{UNKNOWN}])")
HOST_AT = re.compile(rf"@(?P<host>{NAME}):(?P<port>\d{{2,5}})(?!\d)")
DSN_TCP = re.compile(rf"tcp\((?P<host>{NAME}):(?P<port>\d{{2,5}})\)")
BARE = re.compile(rf"(?:^|[\s,;=\"'@(])(?P<host>{NAME})(?=$|[\s,;\"')/])")
PORT_NAME = re.compile(r"^(?P<stem>.*?)_?(?:PORT)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mention:
    """`host` as written; port 0: none was named; protocol None: it does not say."""

    host: str
    port: int
    protocol: Protocol | None
    where: str
    path: tuple[str | int, ...]


def mentions_of(name: str, service: Mapping[str, Any]) -> list[Mention]:
    """Everything that looks like another service's address, without duplicates."""
    found: dict[tuple[str, int], Mention] = {}
    for mention in _all(name, service):
        known = found.get((mention.host.lower(), mention.port))
        if known is None or (known.protocol is None and mention.protocol):
            found[mention.host.lower(), mention.port] = mention
    return list(found.values())


def _all(name: str, service: Mapping[str, Any]) -> Iterator[Mention]:
    path = ("services", name)
    environment = list(pairs(service.get("environment")))
    for variable, text, step in environment:
        yield from _in_text(text, f"env {variable} of {name}", (*path, "environment", step))
    yield from _host_and_port_pairs(name, environment)
    for key in ("command", "entrypoint"):
        value = service.get(key)
        items = value if isinstance(value, list) else [value]
        yield from _in_text(" ".join(text_of(i) for i in items), f"{key} of {name}", (*path, key))
    for key in ("links", "depends_on"):
        for index, item in enumerate(service.get(key) or ()):
            host = text_of(item).partition(":")[0]
            yield Mention(host, 0, None, f"{key} of {name}", (*path, key, index))


def text_mentions(text: str) -> Iterator[Mention]:
    """The addresses in one text."""
    return _in_text(text, "", ())


def _in_text(text: str, where: str, path: tuple[str | int, ...]) -> Iterator[Mention]:
    plain = substitute_known(text)
    rest = plain
    for match in URL.finditer(plain):
        scheme = match["scheme"].lower().rpartition("+")[0].partition("+")[0] or match["scheme"].lower()
        port, protocol = SCHEMES.get(scheme, (0, None))
        for part in match["hosts"].split(","):
            host, _, number = part.partition(":")
            yield Mention(host, int(number) if number else port, protocol, where, path)
        rest = rest.replace(match[0], " ")
    for pattern in (DSN_TCP, HOST_AT, HOST_PORT):
        for match in pattern.finditer(rest):
            if 0 < int(match["port"]) < 65536 and not match["host"].isdecimal():
                yield Mention(match["host"], int(match["port"]), None, where, path)
    for match in BARE.finditer(rest):
        yield Mention(match["host"], 0, None, where, path)


def _host_and_port_pairs(name: str, environment: list[tuple[str, str, str | int]]) -> Iterator[Mention]:
    """`DB_HOST=db` with `DB_PORT=5432`."""
    by_name = {variable.upper(): (text, step) for variable, text, step in environment}
    for variable, (text, _) in by_name.items():
        match = PORT_NAME.match(variable)
        plain = substitute(text) or ""
        if not match or not plain.isdecimal() or not 0 < int(plain) < 65536:
            continue
        stem = match["stem"]
        for other in (
            f"{stem}_HOST",
            f"{stem}HOST",
            f"{stem}_HOSTNAME",
            f"{stem}_SERVER",
            f"{stem}_ADDR",
            stem,
        ):
            if other in by_name:
                host, step = by_name[other]
                path = ("services", name, "environment", step)
                yield Mention(
                    substitute(host) or "", int(plain), None, f"env {other} and {variable} of {name}", path
                )
