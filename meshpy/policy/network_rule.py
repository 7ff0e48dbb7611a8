"""One rule of a Calico policy, its peers, ports and HTTP part."""

from __future__ import annotations

import re

from meshpy.errors import Place
from meshpy.model.authz import HttpMatch, NetworkAction, PortRange
from meshpy.model.match import Exact, Present, SegmentPrefix, StringMatch, Suffix
from meshpy.policy.kinds import NetworkRuleDoc, PeerDoc, SelectorDoc, ServiceRef
from meshpy.policy.reader import Cursor, Fields, Refusal, no_meaning
from meshpy.policy.selectors import All, SelectorError, parse_selector
from meshpy.policy.strings import cidr

__all__ = ["network_rule", "optional_selector", "selector_doc"]

_NAMED = ("TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite")
_TCP = 6
_ONLY_TCP = no_meaning("the mesh carries TCP only", "remove the rule")
_ENTITY = (
    "selector",
    "notSelector",
    "namespaceSelector",
    "serviceAccounts",
    "services",
    "nets",
    "notNets",
    "ports",
    "notPorts",
)
_DOMAIN = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")
_RANGE = re.compile(r"([0-9]{1,5}):([0-9]{1,5})")


def selector_doc(cursor: Cursor | None, place: Place, *, allow_global: bool = False) -> SelectorDoc:
    """Read a selector; an absent one is `all()`."""
    if cursor is None:
        return SelectorDoc("all()", All(), place)
    text = cursor.text()
    try:
        return SelectorDoc(text or "all()", parse_selector(text, allow_global=allow_global), cursor.place)
    except SelectorError as error:
        cursor.problem(f"in column {error.column} of the selector: {error.what}", error.instead)
        return SelectorDoc(text, All(), cursor.place)


def optional_selector(fields: Fields, name: str, *, allow_global: bool = False) -> SelectorDoc | None:
    """As `selector_doc`; None when it is absent or empty."""
    cursor = fields.get(name)
    if cursor is None or not getattr(cursor.node, "text", "x"):
        return None
    return selector_doc(cursor, cursor.place, allow_global=allow_global)


def network_rule(cursor: Cursor, *, is_ingress: bool) -> NetworkRuleDoc:
    """Read a rule; in `ingress` the destination is the workload itself, in `egress` the source is."""
    known = ("action", "protocol", "notProtocol", "ipVersion", "source", "destination", "http", "metadata")
    fields = cursor.fields(known, {"icmp": _ONLY_TCP, "notICMP": _ONLY_TCP})
    at_action = fields.required("action", "action: Allow")
    action = _action(at_action) if at_action is not None else NetworkAction.DENY
    protocol, excluded = _protocol(fields, "protocol"), _protocol(fields, "notProtocol")
    at_source, at_destination, at_http = (fields.get(name) for name in ("source", "destination", "http"))
    source = _entity(at_source, cursor.place, is_own=not is_ingress, is_source=True)
    destination = _entity(at_destination, cursor.place, is_own=is_ingress, is_source=False)
    if (destination.ports or destination.not_ports) and not isinstance(protocol, int):
        cursor.problem("names ports without a protocol", "write protocol: TCP")
    if (version := fields.get("ipVersion")) is not None and version.integer(4, 6) != 4:
        version.problem("overlay networks of a Swarm carry IPv4 here", "write 4, or remove it")
    if (metadata := fields.get("metadata")) is not None:
        metadata.fields(("annotations",)).labels("annotations")
    http = None
    if destination.domains is not None and action is not NetworkAction.ALLOW and at_destination is not None:
        at_destination.problem("`domains` stands in a rule with action Allow only", "write nets:, or Allow")
    if at_http is not None:
        if not is_ingress or action is not NetworkAction.ALLOW:
            at_http.problem("`http` stands in an ingress rule with action Allow only", "remove it")
        http = _http(at_http)
    is_tcp = (protocol is None or protocol == _TCP) and excluded != _TCP
    return NetworkRuleDoc(cursor.place, action, source, destination, is_tcp, http)


def _action(cursor: Cursor) -> NetworkAction:
    known = tuple(action.value for action in NetworkAction)
    value = cursor.choice(known)
    return NetworkAction(value) if value in known else NetworkAction.DENY


def _protocol(fields: Fields, name: str) -> int | None:
    """The IP protocol number; every name but TCP is another number than 6."""
    cursor = fields.get(name)
    if cursor is None:
        return None
    if str(getattr(cursor.node, "text", "")).isdecimal():
        return cursor.integer(1, 255)
    return _TCP if cursor.choice(_NAMED) == "TCP" else 0


def _entity(cursor: Cursor | None, place: Place, *, is_own: bool, is_source: bool) -> PeerDoc:
    if cursor is None:
        return PeerDoc(place)
    refused: dict[str, Refusal] = {}
    known = _ENTITY if is_own or is_source else (*_ENTITY, "domains")
    if is_own or is_source:
        refused["domains"] = ("stands in the destination of an egress rule only", "remove it")
    if is_source:
        why = no_meaning("a caller's own port is chosen at random", "write destination.ports")
        refused |= {"ports": why, "notPorts": why}
    if is_own:
        why = no_meaning("it would be the workload's own overlay address", "write the policy's selector")
        refused |= {"nets": why, "notNets": why}
        refused |= {"services": ("names the other end only", "write the policy's selector")}
    fields = cursor.fields(known, refused)
    for other in ("selector", "notSelector", "namespaceSelector", "serviceAccounts", "nets", "notNets"):
        fields.only_one("services", other)
        if other != "notNets":
            fields.only_one("domains", other)
    for other in ("ports", "notPorts", "domains"):
        fields.only_one("services", other)
    accounts = fields.get("serviceAccounts")
    names: tuple[str, ...] = ()
    account_selector = None
    if accounts is not None:
        inner = accounts.fields(("names", "selector"))
        names = tuple(item.text() for item in inner.items("names"))
        account_selector = optional_selector(inner, "selector")
    service = fields.get("services")
    return PeerDoc(
        cursor.place,
        optional_selector(fields, "selector"),
        optional_selector(fields, "notSelector"),
        optional_selector(fields, "namespaceSelector", allow_global=True),
        names,
        account_selector,
        _service(service) if service is not None else None,
        _nets(fields, "nets"),
        _nets(fields, "notNets"),
        tuple(_port(item) for item in fields.items("ports")),
        tuple(_port(item) for item in fields.items("notPorts")),
        domains=tuple(_domain(item) for item in fields.items("domains")) if "domains" in fields else None,
    )


def _domain(cursor: Cursor) -> StringMatch:
    """Calico: a name, or `*.example.com` for every name below it."""
    text = cursor.text().lower()
    if not _DOMAIN.fullmatch(text):
        cursor.problem(f"{text!r} is no domain", "write api.example.com, or *.example.com")
    return Suffix(text[1:]) if text.startswith("*") else Exact(text)


def _nets(fields: Fields, name: str) -> tuple[str, ...] | None:
    cursor = fields.get(name)
    return None if cursor is None else tuple(cidr(item) for item in cursor.items())


def _service(cursor: Cursor) -> ServiceRef:
    fields = cursor.fields(("name", "namespace"))
    fields.required("name", "name: catalog")
    return ServiceRef(fields.text("name"), fields.text("namespace"), cursor.place)


def _port(cursor: Cursor) -> PortRange:
    text = str(getattr(cursor.node, "text", ""))
    found = _RANGE.fullmatch(text)
    if found is not None:
        first, last = int(found.group(1)), int(found.group(2))
    elif text.isascii() and text.isdecimal() and len(text) < 6:
        first = last = int(text)
    else:
        what = f"{text!r} is no port: services of a Swarm have no named ports"
        cursor.problem(what, 'write a number or "8000:9000"')
        return PortRange(1, 1)
    if not 0 < first <= last <= 65535:
        cursor.problem(f"{text!r} is no range of ports", 'write 1 to 65535, "FIRST:LAST"')
    return PortRange(first, last)


def _http(cursor: Cursor) -> HttpMatch:
    fields = cursor.fields(("methods", "paths"))
    methods = tuple(_method(item) for item in fields.items("methods"))
    return HttpMatch(methods, tuple(_path(item) for item in fields.items("paths")))


def _method(cursor: Cursor) -> StringMatch:
    text = cursor.text()
    if text == "*":
        return Present()
    if not re.fullmatch(r"[A-Z][A-Z_-]*", text):
        cursor.problem(
            f"{text!r} matches no method, methods are upper case", f"write {text.upper() or 'GET'}"
        )
    return Exact(text)


def _path(cursor: Cursor) -> StringMatch:
    fields = cursor.fields(("exact", "prefix"))
    kind = fields.only_one("exact", "prefix")
    value = fields.get(kind)
    if value is None:
        cursor.problem("says nothing", "write exact: or prefix:")
        return Exact("")
    text = value.text()
    if not text.startswith("/") or "?" in text or "#" in text:
        value.problem(f"{text!r} matches no path", "begin with a slash and end before ? and #")
    return Exact(text) if kind == "exact" else SegmentPrefix(text)
