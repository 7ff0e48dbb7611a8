"""MeshConfig: what holds for the whole mesh, under the names of Istio's MeshConfig.

Istio keeps it in a ConfigMap. Here it is a document like the others: one in a mesh, reviewed and rolled back
with the policies that lean on it.
Source: istio.io/latest/docs/reference/config/istio.mesh.v1alpha1.
"""

from __future__ import annotations

from dataclasses import replace

from meshpy.model.ext_authz import BodyCheck, CheckApi, ExtAuthz
from meshpy.model.match import Exact, Prefix, Present, StringMatch, Suffix
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.policy.authn_kinds import MeshConfigDoc, ProviderDoc
from meshpy.policy.kinds import HostRef, Meta
from meshpy.policy.reader import Cursor, Fields
from meshpy.policy.strings import changeable_header, header_name, host_ref, wildcard_match

__all__ = ["mesh_config"]

_MOST_PROXIES = 16
_LARGEST_BODY = 1024 * 1024
_COMMON = ("service", "port", "timeout", "failOpen", "statusOnError", "includeRequestBodyInCheck")
_HTTP = (
    *_COMMON,
    "pathPrefix",
    "includeRequestHeadersInCheck",
    "includeAdditionalHeadersInCheck",
    "headersToUpstreamOnAllow",
    "headersToDownstreamOnAllow",
    "headersToDownstreamOnDeny",
)
_RENAMED = {
    "includeHeadersInCheck": ("is the old name of a field", "write includeRequestHeadersInCheck"),
    "clearRouteCache": ("has no meaning here: routes are chosen before the callee is asked", "remove it"),
}
_KINDS = ("envoyExtAuthzHttp", "envoyExtAuthzGrpc")


def mesh_config(meta: Meta, spec: Cursor) -> MeshConfigDoc:
    """Read `spec`; fields of Istio's MeshConfig that are not here are refused."""
    fields = spec.fields(("defaultConfig", "extensionProviders"))
    proxies = 0
    defaults = fields.get("defaultConfig")
    if defaults is not None:
        topology = defaults.fields(("gatewayTopology",)).get("gatewayTopology")
        if topology is not None:
            known = topology.fields(("numTrustedProxies",))
            proxies = known.integer("numTrustedProxies", 0, _MOST_PROXIES) or 0
    providers: dict[str, ProviderDoc] = {}
    for item in fields.items("extensionProviders"):
        found = _provider(item)
        if found is None:
            continue
        if found.settings.name in providers:
            item.problem(f"a second provider is called {found.settings.name!r}", "write another name")
        providers[found.settings.name] = found
    return MeshConfigDoc(meta, proxies, tuple(providers.values()))


def _provider(cursor: Cursor) -> ProviderDoc | None:
    fields = cursor.fields(("name", *_KINDS))
    at_name = fields.required("name", "name: opa")
    kind = fields.only_one(*_KINDS)
    if not kind:
        cursor.problem("is no provider of authorization", f"write {' or '.join(_KINDS)}")
        return None
    name = at_name.text() if at_name is not None else ""
    if at_name is not None and not name:
        at_name.problem("the name is empty", "write a name that provider.name of a policy repeats")
    at_kind = fields.get(kind)
    assert at_kind is not None  # noqa: S101 - `only_one` found it
    return _http(at_kind, name) if kind == "envoyExtAuthzHttp" else _grpc(at_kind, name)


def _http(cursor: Cursor, name: str) -> ProviderDoc:
    fields = cursor.fields(_HTTP, _RENAMED)
    at_prefix = fields.get("pathPrefix")
    prefix = at_prefix.text() if at_prefix is not None else ""
    if at_prefix is not None and (not prefix.startswith("/") or not _is_path(prefix)):
        at_prefix.problem(f"{prefix!r} begins no path", "begin with a slash, no ?, # or blanks")
    additional = fields.get("includeAdditionalHeadersInCheck")
    added = () if additional is None else tuple(_added(value, key) for key, value in additional.pairs())
    settings = replace(
        _settings(fields, name, CheckApi.HTTP),
        path_prefix=prefix,
        request_headers=_headers(fields, "includeRequestHeadersInCheck"),
        added_headers=added,
        to_upstream=_headers(fields, "headersToUpstreamOnAllow"),
        to_client_on_allow=_headers(fields, "headersToDownstreamOnAllow"),
        to_client_on_deny=_headers(fields, "headersToDownstreamOnDeny") or (Present(),),
    )
    return _reached(cursor, fields, settings)


def _grpc(cursor: Cursor, name: str) -> ProviderDoc:
    fields = cursor.fields(_COMMON, _RENAMED)
    return _reached(cursor, fields, _settings(fields, name, CheckApi.GRPC))


def _settings(fields: Fields, name: str, api: CheckApi) -> ExtAuthz:
    """What both forms have in common; the cluster is found when it is compiled."""
    timeout_s = fields.duration("timeout", 0.001)
    return ExtAuthz(
        name,
        "",
        api,
        timeout_s=1.0 if timeout_s is None else timeout_s,
        fail_open=fields.boolean("failOpen"),
        error_status=_status(fields),
        body=_body(fields.get("includeRequestBodyInCheck")),
    )


def _status(fields: Fields) -> int:
    """Istio writes the code as a string."""
    cursor = fields.get("statusOnError")
    if cursor is None:
        return 403
    text = str(getattr(cursor.node, "text", ""))
    if not (text.isascii() and text.isdecimal() and 400 <= int(text[:4]) <= 599):
        cursor.problem(f"{text!r} is no status of an error", 'write "403", 400 to 599')
        return 403
    return int(text)


def _body(cursor: Cursor | None) -> BodyCheck | None:
    if cursor is None:
        return None
    fields = cursor.fields(("maxRequestBytes", "allowPartialMessage", "packAsBytes"))
    at_max = fields.required("maxRequestBytes", "maxRequestBytes: 8192")
    most = at_max.integer(1, _LARGEST_BODY) if at_max is not None else 1
    return BodyCheck(most, fields.boolean("allowPartialMessage"), fields.boolean("packAsBytes"))


def _is_path(text: str) -> bool:
    return text.isascii() and text.isprintable() and not any(mark in text for mark in "?# ")


def _headers(fields: Fields, name: str) -> tuple[StringMatch, ...]:
    """Names with Istio's `prefix*` and `*suffix`, lower case."""
    return tuple(_lower(wildcard_match(item)) for item in fields.items(name))


def _lower(match: StringMatch) -> StringMatch:
    return type(match)(match.value.lower()) if isinstance(match, Exact | Prefix | Suffix) else match


def _added(cursor: Cursor, name: str) -> tuple[str, str]:
    value = cursor.text()
    if not value.isprintable() or not value.isascii():
        cursor.problem("is no header value", "write one line of ASCII")
    return changeable_header(cursor, header_name(cursor, name)).lower(), value


def _reached(cursor: Cursor, fields: Fields, settings: ExtAuthz) -> ProviderDoc:
    at_service = fields.required("service", "service: authz.shop")
    at_port = fields.get("port")
    port = at_port.integer(1, 65535, quoted=True) if at_port is not None else None
    if port is None:
        cursor.problem("`port` is missing", "write port: 9000")
    namespace, host = ROOT_NAMESPACE, HostRef("", cursor.place)
    if at_service is not None:
        text = at_service.text()
        scope, slash, name = text.partition("/")
        if slash:
            namespace = scope
            host = HostRef(name.lower(), at_service.place)
        else:
            host = host_ref(at_service)
    return ProviderDoc(cursor.place, settings, host, namespace, port or 1)
