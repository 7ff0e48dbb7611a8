"""`rules[]` of an Istio AuthorizationPolicy: from, to, when.

Istio ignores `when` keys that it does not know, and an empty `source` matches anyone: both are refused here,
because a condition that is dropped widens the policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from meshpy.model.authz import Condition, Operation
from meshpy.model.match import Exact, StringMatch
from meshpy.policy.kinds import AuthorizationRuleDoc, SourceDoc
from meshpy.policy.reader import Cursor, Fields, no_meaning, suggestion
from meshpy.policy.strings import cidr, header_name, path_match, wildcard_match

__all__ = ["authorization_rule"]

T = TypeVar("T")

_SOURCE = (
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "trustDomains",
    "notTrustDomains",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
)
_OPERATION = ("hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths")
_METHOD = re.compile(r"\*?[A-Z][A-Z_-]*\*?|\*")
_HEADER_KEY = re.compile(r"request\.headers\[([^\[\]]+)\]")
_CLAIM_KEY = re.compile(r"request\.auth\.claims(?:\[[^\[\]]+\])+")
_ADDRESS_KEYS = ("source.ip", "remote.ip", "destination.ip")
_STRING_KEYS = (
    "source.namespace",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "connection.sni",
)
_KEYS = (
    "request.headers[name]",
    *_ADDRESS_KEYS,
    "source.principal",
    *_STRING_KEYS,
    "request.auth.claims[name]",
    "destination.port",
)
_ENVOY_FILTER = no_meaning(
    "it reads the metadata of a filter of Envoy, and there is no Envoy here",
    "write request.headers[…] or request.auth.claims[…]",
)


def authorization_rule(cursor: Cursor, namespace: str) -> AuthorizationRuleDoc:
    """Read one rule; without `from`, `to` and `when` it matches everything.

    Args:
        namespace: of the policy: where `serviceAccounts` without a namespace are looked for.
    """
    fields = cursor.fields(("from", "to", "when"))
    return AuthorizationRuleDoc(
        cursor.place,
        tuple(_source(item, namespace) for item in fields.items("from")),
        tuple(_operation(item) for item in fields.items("to")),
        tuple(_condition(item) for item in fields.items("when")),
    )


def _each(fields: Fields, name: str, read: Callable[[Cursor], T]) -> tuple[T, ...]:
    return tuple(read(item) for item in fields.items(name))


def _source(cursor: Cursor, namespace: str) -> SourceDoc:
    inner = cursor.fields(("source",)).required("source", "source: {namespaces: [shop]}")
    if inner is None:
        return SourceDoc(cursor.place)
    fields = inner.fields(_SOURCE)
    if not fields:
        inner.problem("is empty and would match anyone", "name a principal or namespace, or remove `from`")
    for name in ("principals", "namespaces"):
        fields.only_one(name, "serviceAccounts")
    fields.only_one("principals", "trustDomains")
    fields.only_one("serviceAccounts", "trustDomains")

    def account(item: Cursor) -> tuple[str, str]:
        return _service_account(item, namespace)

    return SourceDoc(
        inner.place,
        _each(fields, "principals", _principal),
        _each(fields, "notPrincipals", _principal),
        _each(fields, "namespaces", wildcard_match),
        _each(fields, "notNamespaces", wildcard_match),
        _each(fields, "serviceAccounts", account),
        _each(fields, "notServiceAccounts", account),
        _each(fields, "trustDomains", _trust_domain),
        _each(fields, "notTrustDomains", _trust_domain),
        _each(fields, "ipBlocks", cidr),
        _each(fields, "notIpBlocks", cidr),
        _each(fields, "requestPrincipals", wildcard_match),
        _each(fields, "notRequestPrincipals", wildcard_match),
        _each(fields, "remoteIpBlocks", cidr),
        _each(fields, "notRemoteIpBlocks", cidr),
    )


def _principal(cursor: Cursor) -> StringMatch:
    text = cursor.text()
    if text.lower().startswith("spiffe://"):
        cursor.problem("a principal is written without its scheme", f"write {text[9:]}")
    match = wildcard_match(cursor)
    if isinstance(match, Exact) and match.value and "/" not in match.value:
        example = f"cluster.local/ns/NAMESPACE/sa/{text}"
        cursor.problem(f"{text!r} is no principal", f"write {example}, or serviceAccounts: [{text}]")
    return match


def _service_account(cursor: Cursor, namespace: str) -> tuple[str, str]:
    parts = cursor.text().split("/")
    if len(parts) == 1:
        parts = [namespace, *parts]
    if len(parts) != 2 or not all(parts) or "*" in cursor.text():
        cursor.problem(f"{cursor.text()!r} is no service account", "write NAMESPACE/SERVICE or SERVICE, no *")
        return (namespace, "")
    return (parts[0], parts[1])


def _trust_domain(cursor: Cursor) -> str:
    text = cursor.text()
    if not re.fullmatch(r"[a-z0-9._-]+", text):
        cursor.problem(f"{text!r} is no trust domain", "write its whole name such as cluster.local")
    return text


def _operation(cursor: Cursor) -> Operation:
    inner = cursor.fields(("operation",)).required("operation", "operation: {methods: [GET]}")
    if inner is None:
        return Operation()
    fields = inner.fields(_OPERATION)
    if not fields:
        inner.problem("is empty and would match anything", "name a method, path or port, or remove `to`")
    return Operation(
        _each(fields, "hosts", wildcard_match),
        _each(fields, "notHosts", wildcard_match),
        _each(fields, "ports", _port),
        _each(fields, "notPorts", _port),
        _each(fields, "methods", _method),
        _each(fields, "notMethods", _method),
        _each(fields, "paths", path_match),
        _each(fields, "notPaths", path_match),
    )


def _port(cursor: Cursor) -> int:
    """Istio writes ports as strings; a bare number can mean nothing else."""
    text = str(getattr(cursor.node, "text", ""))
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) <= 65535):
        cursor.problem(f"{text!r} is no port", 'write one port such as "8080"')
        return 1
    return int(text)


def _method(cursor: Cursor) -> StringMatch:
    text = cursor.text()
    if text and not _METHOD.fullmatch(text):
        cursor.problem(f"{text!r} matches no method, methods are upper case", f"write {text.upper()}")
    return wildcard_match(cursor)


def _condition(cursor: Cursor) -> Condition:
    fields = cursor.fields(("key", "values", "notValues"))
    at_key = fields.required("key", "key: source.namespace")
    if "values" not in fields and "notValues" not in fields:
        cursor.problem("compares with nothing", "write values: or notValues:")
    if at_key is None:
        return Condition("")
    key, read = _key(at_key)
    return Condition(key, _each(fields, "values", read), _each(fields, "notValues", read))


def _key(cursor: Cursor) -> tuple[str, Callable[[Cursor], StringMatch]]:
    text = cursor.text()
    header = _HEADER_KEY.fullmatch(text)
    if header is not None:
        return f"request.headers[{header_name(cursor, header.group(1)).lower()}]", wildcard_match
    if text in _ADDRESS_KEYS:
        return text, lambda item: Exact(cidr(item))
    if text == "destination.port":
        return text, lambda item: Exact(str(_port(item)))
    if text == "source.principal":
        return text, _principal
    if text in _STRING_KEYS or _CLAIM_KEY.fullmatch(text):
        return text, wildcard_match
    if text.startswith("request.auth.claims"):
        cursor.problem(f"{text!r} names no claim", "write request.auth.claims[name] or …claims[outer][inner]")
    elif text.startswith("experimental."):
        cursor.problem(f"{text!r} {_ENVOY_FILTER[0]}", _ENVOY_FILTER[1])
    else:
        cursor.problem(f"the key {text!r} is unknown", suggestion(text, _KEYS))
    return text, wildcard_match
