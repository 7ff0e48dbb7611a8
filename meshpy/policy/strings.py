"""Strings that several kinds share: string matches, header operations, hosts, networks, header names."""

from __future__ import annotations

import ipaddress
import re

import re2

from meshpy.model.match import Exact, PathTemplate, Prefix, Present, Regex, StringMatch, Suffix
from meshpy.model.route import HeaderOps
from meshpy.policy.kinds import HostRef
from meshpy.policy.reader import NOT_YET, Cursor

__all__ = [
    "MAX_REGEX",
    "changeable_header",
    "cidr",
    "cidr_outside",
    "header_name",
    "header_ops",
    "host_ref",
    "is_address",
    "path_match",
    "plain_value",
    "regex",
    "string_match",
    "wildcard_match",
]

MAX_REGEX = 1024
"""Istio's limit for expressions in policies (ISTIO-SECURITY-2026-006)."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_FRAMING = frozenset(
    (
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_QUIET = re2.Options()
_QUIET.log_errors = False


def regex(cursor: Cursor) -> str:
    """An RE2 expression of at most 1,024 characters."""
    text = cursor.text()
    if len(text) > MAX_REGEX:
        cursor.problem(f"the expression has {len(text)} characters", f"write at most {MAX_REGEX}")
        return ""
    try:
        re2.compile(text, _QUIET)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        if isinstance(reason, bytes):
            reason = reason.decode(errors="replace")
        cursor.problem(f"is no RE2 expression: {reason}", "write RE2: no look-around, no back-references")
        return ""
    return text


def string_match(cursor: Cursor) -> StringMatch | None:
    """Istio's StringMatch; None when it is `{}`, which means 'is there'."""
    fields = cursor.fields(("exact", "prefix", "regex"))
    kind = fields.only_one("exact", "prefix", "regex")
    value = fields.get(kind)
    if value is None:
        return None
    if kind == "regex":
        return Regex(regex(value))
    return Exact(value.text()) if kind == "exact" else Prefix(value.text())


def wildcard_match(cursor: Cursor) -> StringMatch:
    """Istio's authorization strings: `exact`, `prefix*`, `*suffix`, `*` (any that is not empty)."""
    text = cursor.text()
    if not text:
        cursor.problem("the string is empty and matches nothing", "write a value, or * for any")
    if text == "*":
        return Present()
    if "*" in text[1:-1] or (text.startswith("*") and text.endswith("*")):
        cursor.problem(f"{text!r} has a * inside", "write one * only, as the first or the last character")
    if text.startswith("*"):
        return Suffix(text[1:])
    return Prefix(text[:-1]) if text.endswith("*") else Exact(text)


def path_match(cursor: Cursor) -> StringMatch:
    """A path of an authorization operation: `wildcard_match`, or a template with `{*}` and `{**}`."""
    text = cursor.text()
    if "{" not in text and "}" not in text:
        if text and text[0] not in "/*":
            cursor.problem(f"{text!r} matches no path", f"begin with a slash: /{text}")
        if "?" in text or "#" in text:
            cursor.problem(f"{text!r} can match no path, paths end before ? and #", "write the path alone")
        return wildcard_match(cursor)
    operators = [part for part in text.split("/") if "{" in part or "}" in part]
    if any(part not in ("{*}", "{**}") for part in operators):
        cursor.problem(f"{text!r} is no path template", "write {*} or {**} as a whole segment")
    elif "{**}" in operators[:-1]:
        cursor.problem(f"{text!r} has an operator after {{**}}", "write {**} as the last operator")
    if not text.startswith("/"):
        cursor.problem(f"{text!r} matches no path", "begin the template with a slash")
    if "*" in re.sub(r"\{\*{1,2}\}", "", text):
        cursor.problem(f"{text!r} mixes * with a template", "write {*} or {**}")
    return PathTemplate(text)


def cidr(cursor: Cursor) -> str:
    """An address or a network, printed as a network."""
    text = cursor.text()
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        cursor.problem(f"{text!r} is no address and no CIDR", "write 10.1.0.0/16 or 10.1.2.3")
        return "0.0.0.0/32"


def cidr_outside(cursor: Cursor, net: str) -> str:
    """A network that is cut out of `net`."""
    text = cidr(cursor)
    inner, outer = ipaddress.ip_network(text), ipaddress.ip_network(net)
    if inner.version != outer.version or inner.prefixlen < outer.prefixlen or inner[0] not in outer:
        cursor.problem(f"{text} does not lie in {net}", "write a network inside of it")
    return text


def host_ref(cursor: Cursor, *, wildcard: bool = False) -> HostRef:
    """A host of the mesh or beyond; `*.shop` and `*` only where a document speaks of many hosts."""
    text = cursor.text()
    if "*" in text and not wildcard:
        cursor.problem(f"the wildcard host {text!r} means no destination", "list the hosts by name")
    elif "*" in text:
        if text != "*" and not (text.startswith("*.") and _HOST.fullmatch(text[2:])):
            cursor.problem(f"{text!r} is no host name", "write * as the first label only: *.shop, or *")
    elif not _HOST.fullmatch(text):
        cursor.problem(f"{text!r} is no host name", "write catalog, catalog.shop or api.example.com, no port")
    return HostRef(text.lower(), cursor.place)


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def header_name(cursor: Cursor, name: str) -> str:
    """Check a header's name that stands as a key or an item."""
    if not _HEADER_NAME.fullmatch(name):
        cursor.problem(f"{name!r} is no header name", "write letters, digits and -")
    return name


def header_ops(cursor: Cursor | None) -> tuple[HeaderOps, HeaderOps]:
    """`headers`: the operations on the request and on the response."""
    if cursor is None:
        return HeaderOps(), HeaderOps()
    fields = cursor.fields(("request", "response"))
    return _ops(fields.get("request")), _ops(fields.get("response"))


def _ops(cursor: Cursor | None) -> HeaderOps:
    if cursor is None:
        return HeaderOps()
    fields = cursor.fields(("set", "add", "remove"))
    removed = tuple(changeable_header(item, item.text()) for item in fields.items("remove"))
    return HeaderOps(_named_values(fields.get("set")), _named_values(fields.get("add")), removed)


def _named_values(cursor: Cursor | None) -> tuple[tuple[str, str], ...]:
    if cursor is None:
        return ()
    return tuple((changeable_header(value, name), _header_value(value)) for name, value in cursor.pairs())


def changeable_header(cursor: Cursor, name: str) -> str:
    """Check the name of a header that a policy may set or remove."""
    if name.lower() == "host":
        cursor.problem("the Host header is not changed here", "write rewrite.authority")
    elif name.lower() in _FRAMING:
        cursor.problem(f"{name} frames the message and belongs to the proxy", "remove it")
    return header_name(cursor, name)


def plain_value(cursor: Cursor) -> str:
    """A header's value, as it stands."""
    text = cursor.text()
    if not _HEADER_VALUE.fullmatch(text):
        cursor.problem("has a control character", "write one line of text")
    return text


def _header_value(cursor: Cursor) -> str:
    """A value; Envoy reads `%NAME%` as a variable and `%%` as a percent sign."""
    text = plain_value(cursor)
    if "%" in text.replace("%%", ""):
        what, instead = NOT_YET
        cursor.problem(f"the variable in {text!r} {what}", f"{instead}, or write %% for a percent sign")
    return text.replace("%%", "%")
