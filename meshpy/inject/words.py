"""Lists and mappings in the two forms docker takes, and the orders a user gives to the mesh."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from meshpy.errors import DocumentError, Problem
from meshpy.inject.options import InjectOptions, Settings
from meshpy.inject.stackfile import StackFile
from meshpy.model.endpoint import Protocol

__all__ = [
    "HOST",
    "POLICY_KEYS",
    "ROOT_KEYS",
    "ROOT_POLICY_KEYS",
    "ROOT_SWITCHES",
    "SERVICE_KEYS",
    "STRUCTURED_KEYS",
    "Orders",
    "PortWord",
    "orders_of",
    "pairs",
    "parse_ports",
    "settings_of",
    "text_of",
]

SERVICE_KEYS = (
    "enable", "ports", "host", "egress", "dependencies", "proxy_protocol", "cache", "outbound", "tls",
    "https_redirect", "egress_gateway", "group", "gateway", "credentials",
)  # fmt: skip
STRUCTURED_KEYS = ("servers",)
"""Of a service's `x-mesh` alone: read by `servers`."""
POLICY_KEYS = ("allow", "deny", "timeout", "retries", "routes")
"""Of a service: they are policies and read by `short_form`."""
ROOT_POLICY_KEYS = ("default_deny", "mtls", "timeout", "retries", "hosts", "policies")
ENVIRONMENT_KEY = "sidecar_environment"
_OWN = ("NAMESPACE", "SERVICE", "TASK_ID", "NODE", "CONTROL_PLANE", "TRUST_DOMAIN", "JOIN_TOKEN_FILE")
OWN_ENVIRONMENT = frozenset(f"MESHPY_{name}" for name in (*_OWN, "TRUST_BUNDLE_FILE", "CACHE"))
ROOT_KEYS = (
    "trust_domain",
    "encrypted",
    "image",
    "endpoint_mode",
    "mesh_network",
    "control_plane",
    "cache",
    "permissive",
    "outbound",
    "egress_gateway",
)
OUTBOUND = ("ALLOW_ANY", "REGISTRY_ONLY")
WORDS_OF = {"endpoint_mode": ("vip", "dnsrr"), "outbound": OUTBOUND}
ROOT_SWITCHES = ("encrypted", "cache", "permissive")
"""Those of them that are true or false."""
HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
PORT = re.compile(r"(\d{1,5})(?:/([a-z0-9]+))?")
GROUP = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]+)*")
GATEWAY = re.compile(r"none|[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9][A-Za-z0-9_-]*")
NAMES = {
    "egress_gateway": (GATEWAY, "no gateway: write STACK/SERVICE, or none"),
    "group": (GROUP, "no name for a group: use letters, digits and -"),
    "outbound": (re.compile("|".join((*OUTBOUND, "CLOSED"))), "not ALLOW_ANY, REGISTRY_ONLY or CLOSED"),
}
"""Orders of one word: its form, and what is said of another."""
EGRESS = re.compile(rf"({HOST.pattern}):(\d{{1,5}})(?:/([a-z0-9]+))?")


@dataclass(frozen=True, slots=True, order=True)
class PortWord:
    """A port as `meshpy.ports` writes it; `text` is what labels carry, perhaps `${PORT:-80}`."""

    number: int
    protocol: Protocol | None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Orders:
    """`meshpy.*` labels and `x-mesh` of one service; None where nothing is said.

    Args:
        outbound: `ALLOW_ANY`, `REGISTRY_ONLY`, or `CLOSED` where the file's own does not hold.
        group: of peers that reach each other directly, as a cluster's members do.
        egress_gateway: `STACK/SERVICE`, or `none` where the file's own does not hold.
        tls, https_redirect: the short forms of `servers`.
        gateway: published ports that are left to Gateway documents which do not stand in this file.
        credentials: of these: what they may name as `credentialName`.
        patterns: of `egress`, `*.example.com:443`: no alias can stand for them, the forward proxy takes them.
    """

    enable: bool | None = None
    ports: tuple[PortWord, ...] | None = None
    hosts: tuple[str, ...] = ()
    egress: tuple[tuple[str, int, str], ...] = ()
    dependencies: tuple[str, ...] | None = None
    proxy_protocol: tuple[int, ...] = ()
    cache: bool | None = None
    outbound: str | None = None
    patterns: tuple[str, ...] = ()
    tls: tuple[str, ...] = ()
    https_redirect: tuple[int, ...] = ()
    egress_gateway: str | None = None
    gateway: tuple[int, ...] = ()
    credentials: tuple[str, ...] = ()
    group: str = ""
    places: Mapping[str, tuple[str | int, ...]] | None = None


def text_of(value: Any) -> str:
    """A scalar as docker prints it into a string field."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def pairs(value: Any) -> Iterator[tuple[str, str, str | int]]:
    """Name, value and step (key or index) of a list of NAME=VALUE or of a mapping."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield name, text_of(item), name
    elif isinstance(value, list):
        for index, item in enumerate(value):
            name, _, text = text_of(item).partition("=")
            yield name, text, index


def parse_ports(text: str) -> tuple[PortWord, ...]:
    """`8080/http,5432/tcp`; no protocol means: by convention.

    Raises:
        ValueError: what is wrong, in words.
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = PORT.fullmatch(part)
        if not match or not 0 < int(match[1]) < 65536:
            raise ValueError(f"{part!r} is no port: write it as 8080/http or 5432/tcp")
        if match[2] and match[2] not in tuple(Protocol):
            raise ValueError(f"{match[2]!r} is no protocol: one of {', '.join(Protocol)}")
        found.append(PortWord(int(match[1]), Protocol(match[2]) if match[2] else None, match[1]))
    return tuple(found)


def orders_of(stack: StackFile, name: str) -> Orders:
    """What the user ordered for a service. `x-mesh` goes before deploy.labels, they before labels.

    Raises:
        DocumentError: every unknown word and every value that cannot be read.
    """
    words: dict[str, str] = {}
    places: dict[str, tuple[str | int, ...]] = {}
    problems: list[Problem] = []
    for key, text, path in _said(stack, name):
        if key in POLICY_KEYS or (key in STRUCTURED_KEYS and "x-mesh" in path):
            continue
        if key not in SERVICE_KEYS:
            if key != "exempt":
                what = f"the mesh knows no `{path[-1] if isinstance(path[-1], str) else f'meshpy.{key}'}`"
                problems.append(
                    stack.problem(path, what, _close(key, (*SERVICE_KEYS, *STRUCTURED_KEYS, *POLICY_KEYS)))
                )
        elif key not in words:
            words[key], places[key] = text, path
    orders = Orders(places=places)
    for key, text in words.items():
        try:
            orders = _with(orders, key, text)
        except ValueError as error:
            problems.append(stack.problem(places[key], str(error)))
    if problems:
        raise DocumentError(problems)
    return orders


def _said(stack: StackFile, name: str) -> Iterator[tuple[str, str, tuple[str | int, ...]]]:
    path: tuple[str | int, ...] = ("services", name)
    extension = stack.get((*path, "x-mesh"))
    if extension is not None and not isinstance(extension, dict):
        raise DocumentError(
            [stack.problem((*path, "x-mesh"), "must be a mapping", "write `ports:` and so on below it")]
        )
    for key, value in (extension or {}).items():
        text = ",".join(text_of(item) for item in value) if isinstance(value, list) else text_of(value)
        yield key, text, (*path, "x-mesh", key)
    for below in (("deploy", "labels"), ("labels",)):
        for label, text, step in pairs(stack.get((*path, *below))):
            if label.startswith("meshpy."):
                yield label.removeprefix("meshpy."), text, (*path, *below, step)


def _with(orders: Orders, key: str, text: str) -> Orders:
    items = tuple(filter(None, (part.strip() for part in text.split(","))))
    if key in ("enable", "cache"):
        if text.lower() not in ("true", "false"):
            raise ValueError(f'{text!r} is neither "true" nor "false"')
        is_on = text.lower() == "true"
        return replace(orders, enable=is_on) if key == "enable" else replace(orders, cache=is_on)
    if key == "ports":
        return replace(orders, ports=parse_ports(text))
    if key in ("proxy_protocol", "https_redirect", "gateway"):
        numbers: dict[str, Any] = {key: tuple(word.number for word in parse_ports(text))}
        return replace(orders, **numbers)
    if key == "tls":
        return replace(orders, tls=items)
    if key == "credentials":
        return replace(orders, credentials=items)
    if key == "egress":
        exact = tuple(_egress(item) for item in items if not item.startswith("*"))
        return replace(orders, egress=exact, patterns=tuple(_pattern(i) for i in items if i.startswith("*")))
    if key in NAMES:
        form, instead = NAMES[key]
        if not form.fullmatch(text):
            raise ValueError(f"{text!r} is {instead}")
        name: dict[str, Any] = {key: text}
        return replace(orders, **name)
    for item in items:
        if not HOST.fullmatch(item):
            raise ValueError(f"{item!r} is no host name")
    return replace(orders, hosts=items) if key == "host" else replace(orders, dependencies=items)


def _egress(text: str) -> tuple[str, int, str]:
    match = EGRESS.fullmatch(text)
    if not match or not 0 < int(match[2]) < 65536:
        raise ValueError(f"{text!r} is no external host: write it as api.example.com:443/tls")
    protocol = match[3] or ("http" if match[2] == "80" else "tls" if match[2] == "443" else "tcp")
    if protocol not in tuple(Protocol):
        raise ValueError(f"{protocol!r} is no protocol: one of {', '.join(Protocol)}")
    return match[1].lower(), int(match[2]), protocol


def _pattern(text: str) -> str:
    match = re.fullmatch(rf"\*\.({HOST.pattern}):(\d{{1,5}})(?:/tls|/http|/tcp)?", text)
    if not match or not 0 < int(match[2]) < 65536:
        raise ValueError(f"{text!r} is no pattern: write it as *.example.com:443")
    return f"*.{match[1].lower()}:{int(match[2])}"


def settings_of(stack: StackFile, options: InjectOptions) -> Settings:
    """Options of the command before `x-mesh` of the file before the defaults.

    Raises:
        DocumentError: an unknown key or a value of the wrong kind in the root `x-mesh`.
    """
    said = stack.value.get("x-mesh")
    if said is None:
        said = {}
    problems = [] if isinstance(said, dict) else [stack.problem(("x-mesh",), "must be a mapping")]
    settings = Settings()
    for key, value in said.items() if isinstance(said, dict) else ():
        kind = bool if key in ROOT_SWITCHES else str
        if key in ROOT_POLICY_KEYS:
            continue
        if key == ENVIRONMENT_KEY:
            problems += _environment_problems(stack, value)
            said_there = value if isinstance(value, dict) else {}
            found = {str(name): text_of(each) for name, each in said_there.items()}
            settings = replace(settings, sidecar_environment=found)
            continue
        if key not in ROOT_KEYS:
            problems.append(
                stack.problem(
                    ("x-mesh", key),
                    f"the mesh knows no `{key}`",
                    _close(key, (*ROOT_KEYS, ENVIRONMENT_KEY, *ROOT_POLICY_KEYS)),
                )
            )
        elif (
            not isinstance(value, kind)
            or value not in WORDS_OF.get(key, (value,))
            or (key == "egress_gateway" and not GATEWAY.fullmatch(str(value)))
        ):
            instead = f"write {' or '.join(WORDS_OF[key])}" if key in WORDS_OF else "write a text"
            instead = "write true or false" if kind is bool else instead
            instead = "write STACK/SERVICE" if key == "egress_gateway" else instead
            problems.append(stack.problem(("x-mesh", key), f"{value!r} is no {key}", instead))
        else:
            changes: dict[str, Any] = {key: value}
            settings = replace(settings, **changes)
    if problems:
        raise DocumentError(problems)
    chosen: dict[str, Any] = {key: getattr(options, key) for key in ROOT_KEYS}
    return replace(settings, **{key: value for key, value in chosen.items() if value is not None})


def _environment_problems(stack: StackFile, value: Any) -> list[Problem]:
    """What is wrong with `sidecar_environment`: who the sidecar is, is not for the file to say."""
    at = ("x-mesh", ENVIRONMENT_KEY)
    if not isinstance(value, dict):
        return [stack.problem(at, "must be a mapping", "write NAME: value, one a line")]
    problems = []
    for name, each in value.items():
        if not isinstance(name, str) or not name.startswith(("MESHPY_", "OTEL_")) or name in OWN_ENVIRONMENT:
            instead = "variables of sidecars begin with MESHPY_ or OTEL_; who they are is written by inject"
            problems.append(stack.problem((*at, name), f"{name} cannot be set here", instead))
        elif not isinstance(each, str | int | float):
            problems.append(stack.problem((*at, name), f"{each!r} is no value", "write a text or a number"))
    return problems


def _close(key: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"it knows {', '.join(known)}"
