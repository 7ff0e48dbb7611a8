"""`toPorts` of a Cilium rule: ports and the HTTP requests on them."""

from __future__ import annotations

from dataclasses import dataclass

from meshpy.errors import Place
from meshpy.model.authz import HttpMatch, PortRange
from meshpy.model.match import Exact, HeaderMatch, Regex, StringMatch
from meshpy.policy.reader import NOT_YET, Cursor, no_meaning
from meshpy.policy.strings import header_name, regex

__all__ = ["PortRule", "port_rules"]

_PROTOCOLS = ("ANY", "TCP", "UDP", "SCTP", "ICMP", "ICMPV6", "VRRP", "IGMP")
_TLS = ("is not read: sidecars speak mTLS by themselves", "remove it")
_REFUSED = {
    "terminatingTLS": _TLS,
    "originatingTLS": _TLS,
    "serverNames": NOT_YET,
    "listener": no_meaning("it names a listener of Envoy"),
}
_KAFKA = ("is not supported by meshpy, nor by Cilium any more", "remove it: the port alone is allowed")
_DNS = no_meaning("apps ask Docker's DNS, not the mesh", "remove the rule; toFQDNs needs none")


@dataclass(frozen=True, slots=True)
class PortRule:
    """No ports: any; no http: any request; `suffix` is its part of the rule's name."""

    place: Place | None = None
    suffix: str = ""
    ports: tuple[PortRange, ...] = ()
    is_tcp: bool = True
    http: tuple[HttpMatch, ...] = ()


def port_rules(cursor: Cursor | None, *, denies: bool) -> list[PortRule]:
    """The alternatives of `toPorts`; a deny rule has no requests (Cilium)."""
    return [] if cursor is None else [_port_rule(item, i, denies) for i, item in enumerate(cursor.items())]


def _port_rule(cursor: Cursor, index: int, denies: bool) -> PortRule:
    fields = cursor.fields(("ports", "rules"), _REFUSED)
    spans: list[PortRange] = []
    items = fields.items("ports")
    is_any = not items
    is_tcp = not items
    for item in items:
        inner = item.fields(("port", "protocol", "endPort"))
        protocol = inner.get("protocol")
        is_met = protocol is None or protocol.choice(_PROTOCOLS) in ("ANY", "TCP")
        at_port = inner.required("port", 'port: "80"')
        span = _span(at_port, inner.get("endPort")) if at_port is not None else None
        is_tcp = is_tcp or is_met
        if is_met and span is None:
            is_any = True
        elif is_met and span is not None:
            spans.append(span)
    at_rules = fields.get("rules")
    http = _rules(at_rules) if at_rules is not None else ()
    if http and denies and at_rules is not None:
        at_rules.problem("a deny rule has no requests", "remove it: the port is denied, or allow others")
    return PortRule(cursor.place, f".toPorts[{index}]", () if is_any else tuple(spans), is_tcp, http)


def _span(port: Cursor, end: Cursor | None) -> PortRange | None:
    """A port, a range, or None for `0`, which is every port."""
    text = str(getattr(port.node, "text", ""))
    if not (text.isascii() and text.isdecimal() and int(text[:6]) <= 65535):
        port.problem(f"{text!r} is no port: services of a Swarm have no named ports", 'write "80"')
        return PortRange(1, 1)
    first = int(text)
    last = end.integer(0, 65535) if end is not None else first
    if first == 0:
        return None
    if end is not None and last and last < first:
        end.problem(f"{last} is below `port`", f"write {first} or more")
    return PortRange(first, max(first, last))


def _rules(cursor: Cursor) -> tuple[HttpMatch, ...]:
    refused = {"kafka": _KAFKA, "dns": _DNS, "l7proto": NOT_YET, "l7": NOT_YET}
    fields = cursor.fields(("http",), refused)
    return tuple(_http(item) for item in fields.items("http"))


def _http(cursor: Cursor) -> HttpMatch:
    """One alternative; an empty one is any HTTP request."""
    fields = cursor.fields(("method", "path", "host", "headers", "headerMatches"))
    headers = [_header(item) for item in fields.items("headers")]
    headers += [_header_match(item) for item in fields.items("headerMatches")]

    def pattern(name: str) -> tuple[StringMatch, ...]:
        value = fields.get(name)
        return () if value is None else (_expression(value),)

    return HttpMatch(pattern("method"), pattern("path"), pattern("host"), tuple(headers))


def _expression(cursor: Cursor) -> StringMatch:
    """An expression of the whole value; one without operators is a plain text, and faster."""
    text = regex(cursor)
    return Regex(text) if set(text) & set("\\^$.|?*+()[]{}") or not text else Exact(text)


def _header(cursor: Cursor) -> HeaderMatch:
    """`Name` is there, or `Name: value` has that value."""
    name, colon, value = cursor.text().partition(":")
    name = header_name(cursor, name.strip()).lower()
    return HeaderMatch(name, Exact(value.strip()) if colon else None)


def _header_match(cursor: Cursor) -> HeaderMatch:
    refused = {
        "mismatch": ("changes the request instead of judging it", "remove it: a mismatch is a refusal"),
        "secret": no_meaning("it names a Kubernetes secret", "write value:"),
    }
    fields = cursor.fields(("name", "value"), refused)
    at_name = fields.required("name", "name: x-token")
    name = header_name(at_name, at_name.text()).lower() if at_name is not None else ""
    value = fields.text("value")
    return HeaderMatch(name, Exact(value) if value else None)
