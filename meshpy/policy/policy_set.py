"""Texts -> the frozen set of all policies, or every problem that they have."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from meshpy.errors import DocumentError, Place, Problem
from meshpy.policy.authn_kinds import MeshConfigDoc, PeerAuthenticationDoc, RequestAuthenticationDoc
from meshpy.policy.authorization_policy import authorization_policy
from meshpy.policy.cilium import cilium_policy
from meshpy.policy.destination_rule import destination_rule
from meshpy.policy.documents import Mapping, Tree, parse
from meshpy.policy.gateway_kinds import GatewayDoc
from meshpy.policy.gateway_listeners import gateway as gateway_api_gateway
from meshpy.policy.gateway_refs import reference_grant
from meshpy.policy.gateway_routes import grpc_route, http_route
from meshpy.policy.gateway_servers import gateway
from meshpy.policy.kinds import (
    AuthorizationPolicyDoc,
    DestinationRuleDoc,
    GatewayRouteDoc,
    Meta,
    NetworkPolicyDoc,
    NetworkSetDoc,
    PolicyValue,
    RateLimitDoc,
    ReferenceGrantDoc,
    TierDoc,
    VirtualServiceDoc,
)
from meshpy.policy.kubernetes import kubernetes_network_policy
from meshpy.policy.mesh_config import mesh_config
from meshpy.policy.mesh_docs import ServiceEntryDoc, TelemetryDoc
from meshpy.policy.network_policy import network_policy, network_set, tier
from meshpy.policy.peer_authentication import peer_authentication
from meshpy.policy.rate_limit import rate_limit_policy
from meshpy.policy.reader import Cursor, Fields, Refusal, Report, suggestion
from meshpy.policy.request_authentication import request_authentication
from meshpy.policy.service_entry import service_entry
from meshpy.policy.telemetry import telemetry
from meshpy.policy.virtual_service import virtual_service

__all__ = ["Document", "KindAbout", "PolicySet", "kind_versions", "load", "load_documents", "read_spec"]

T = TypeVar("T")

Value: TypeAlias = (
    PolicyValue
    | ServiceEntryDoc
    | TelemetryDoc
    | GatewayDoc
    | RequestAuthenticationDoc
    | PeerAuthenticationDoc
    | MeshConfigDoc
)

_ISTIO_NETWORKING = ("networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3")
_ISTIO_SECURITY = ("security.istio.io/v1", "security.istio.io/v1beta1")
_Found: TypeAlias = "tuple[tuple[Problem, ...], tuple[tuple[Document, Value], ...]]"

_REMEMBERED_CHARS = 8 * 1024
"""Of the longest text that is not read anew: who may ask for a comparison must not fill the memory."""

_CALICO = ("projectcalico.org/v3",)
_MESHPY = ("meshpy.io/v1",)
_KUBERNETES = ("networking.k8s.io/v1",)
_CILIUM = ("cilium.io/v2",)
_LINKERD = ("policy.linkerd.io/v1alpha1", "policy.linkerd.io/v1beta1")
_GATEWAY = ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1")


@dataclass(frozen=True, slots=True)
class KindAbout:
    """A kind: the versions it is written in, and how its `spec` is read."""

    versions: tuple[str, ...]
    has_namespace: bool
    needs_spec: bool
    read: Callable[[Meta, Cursor], Value]


_KINDS = {
    "VirtualService": KindAbout(_ISTIO_NETWORKING, True, True, virtual_service),
    "DestinationRule": KindAbout(_ISTIO_NETWORKING, True, True, destination_rule),
    "Gateway": KindAbout(_ISTIO_NETWORKING, True, True, gateway),
    "Gateway.gateway.networking.k8s.io": KindAbout(_GATEWAY, True, True, gateway_api_gateway),
    "ServiceEntry": KindAbout(_ISTIO_NETWORKING, True, True, service_entry),
    "HTTPRoute": KindAbout(_GATEWAY, True, True, http_route),
    "GRPCRoute": KindAbout(_GATEWAY[:1], True, True, grpc_route),
    "ReferenceGrant": KindAbout(_GATEWAY, True, True, reference_grant),
    "Telemetry": KindAbout(("telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1"), True, True, telemetry),
    "AuthorizationPolicy": KindAbout(_ISTIO_SECURITY, True, False, authorization_policy),
    "RequestAuthentication": KindAbout(_ISTIO_SECURITY, True, True, request_authentication),
    "PeerAuthentication": KindAbout(_ISTIO_SECURITY, True, False, peer_authentication),
    "MeshConfig": KindAbout(_MESHPY, False, True, mesh_config),
    "NetworkPolicy": KindAbout(_CALICO, True, True, network_policy),
    "GlobalNetworkPolicy": KindAbout(_CALICO, False, True, network_policy),
    "Tier": KindAbout(_CALICO, False, False, tier),
    "NetworkSet": KindAbout(_CALICO, True, True, network_set),
    "GlobalNetworkSet": KindAbout(_CALICO, False, True, network_set),
    "StagedNetworkPolicy": KindAbout(_CALICO, True, True, network_policy),
    "StagedGlobalNetworkPolicy": KindAbout(_CALICO, False, True, network_policy),
    "StagedKubernetesNetworkPolicy": KindAbout(_CALICO, True, True, kubernetes_network_policy),
    "NetworkPolicy.networking.k8s.io": KindAbout(_KUBERNETES, True, True, kubernetes_network_policy),
    "HTTPLocalRateLimitPolicy": KindAbout(_LINKERD, True, True, rate_limit_policy),
    "CiliumNetworkPolicy": KindAbout(_CILIUM, True, True, cilium_policy),
    "CiliumClusterwideNetworkPolicy": KindAbout(_CILIUM, False, True, cilium_policy),
}
"""By the name that verdicts show; the second of two groups with one kind's name is KIND.GROUP (kubectl)."""
_ELSEWHERE: MappingType[str, Refusal] = {
    "Sidecar": (
        "is not needed: a sidecar knows what its service shared a network with, no more",
        "remove it; `dependencies` in x-mesh of the stack file narrows that, egress rules deny",
    ),
    "GatewayClass": ("has nothing to configure: there is one class, meshpy", "remove it"),
    "TLSRoute": ("is read as Istio's document", "write a VirtualService with tls: routes"),
    "TCPRoute": ("is read as Istio's document", "write a VirtualService with tcp: routes"),
    "UDPRoute": ("has no meaning on Swarm: the mesh carries TCP only", "remove it"),
    "BackendTLSPolicy": ("is read as Istio's document", "write a DestinationRule with trafficPolicy.tls"),
    "EnvoyFilter": (
        "patches Envoy's own configuration, and this sidecar is not Envoy",
        "write what it was for as a VirtualService, DestinationRule, AuthorizationPolicy or Telemetry",
    ),
    "WorkloadEntry": ("registers machines by hand", "write a ServiceEntry with endpoints"),
    "HostEndpoint": ("is for nodes and their interfaces, the mesh sees services only", "remove it"),
    "Profile": ("has no meaning on Swarm: what the stack's networks allowed is the baseline", "remove it"),
}
"""Kinds that users bring along and that mean nothing here: why, and what to write instead."""
_WRITTEN = tuple(dict.fromkeys(key.partition(".")[0] for key in _KINDS))
_FROM_SERVER = frozenset(
    ("creationTimestamp", "uid", "resourceVersion", "generation", "managedFields", "selfLink")
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")


def kind_versions() -> MappingType[str, KindAbout]:
    """Every kind that is read, by the name that verdicts show."""
    return _KINDS


def read_spec(kind: str, meta: Meta, spec: Cursor) -> object:
    """Read a `spec` as a kind does."""
    return _KINDS[kind].read(meta, spec)


@dataclass(frozen=True, slots=True)
class Document:
    """One document as written, with its identity.

    Args:
        namespace: as written, or the default of the load; empty for kinds that have none.
        text: reads again as this document alone; its first line is line `line` of `file`.
        place: where the document's root stands.
    """

    kind: str
    namespace: str
    name: str
    text: str
    file: str
    place: Place
    line: int = 1

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.kind, self.namespace, self.name


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All policies of a revision, each kind in the order of the texts."""

    virtual_services: tuple[VirtualServiceDoc, ...] = ()
    destination_rules: tuple[DestinationRuleDoc, ...] = ()
    gateways: tuple[GatewayDoc, ...] = ()
    gateway_routes: tuple[GatewayRouteDoc, ...] = ()
    reference_grants: tuple[ReferenceGrantDoc, ...] = ()
    authorization_policies: tuple[AuthorizationPolicyDoc, ...] = ()
    request_authentications: tuple[RequestAuthenticationDoc, ...] = ()
    peer_authentications: tuple[PeerAuthenticationDoc, ...] = ()
    mesh_configs: tuple[MeshConfigDoc, ...] = ()
    network_policies: tuple[NetworkPolicyDoc, ...] = ()
    tiers: tuple[TierDoc, ...] = ()
    network_sets: tuple[NetworkSetDoc, ...] = ()
    service_entries: tuple[ServiceEntryDoc, ...] = ()
    telemetries: tuple[TelemetryDoc, ...] = ()
    rate_limits: tuple[RateLimitDoc, ...] = ()
    documents: tuple[Document, ...] = ()


def load(texts: Sequence[tuple[str, str]], default_namespace: str = "default") -> PolicySet:
    """Read files, given as (name, text).

    Raises:
        DocumentError: with every problem of every file; then nothing is to be applied.
    """
    return _load((name, text, default_namespace or "default", 1) for name, text in texts)


def load_documents(documents: Iterable[Document]) -> PolicySet:
    """Read documents of earlier loads again, each in its own namespace and with its old places.

    Raises:
        DocumentError: as `load`.
    """
    return _load((doc.file, doc.text, doc.namespace or "default", doc.line) for doc in documents)


def _load(sources: Iterable[tuple[str, str, str, int]]) -> PolicySet:
    problems: list[Problem] = []
    values: list[Value] = []
    documents: list[Document] = []
    for source in sources:
        wrong, found = _read(*source)
        problems.extend(wrong)
        documents.extend(document for document, _ in found)
        values.extend(value for _, value in found)
    problems.extend(_duplicates(documents))
    if problems:
        raise DocumentError(dict.fromkeys(problems))
    return PolicySet(
        virtual_services=_of(values, VirtualServiceDoc),
        destination_rules=_of(values, DestinationRuleDoc),
        gateways=_of(values, GatewayDoc),
        gateway_routes=_of(values, GatewayRouteDoc),
        reference_grants=_of(values, ReferenceGrantDoc),
        authorization_policies=_of(values, AuthorizationPolicyDoc),
        request_authentications=_of(values, RequestAuthenticationDoc),
        peer_authentications=_of(values, PeerAuthenticationDoc),
        mesh_configs=_of(values, MeshConfigDoc),
        network_policies=_of(values, NetworkPolicyDoc),
        tiers=_of(values, TierDoc),
        network_sets=_of(values, NetworkSetDoc),
        service_entries=_of(values, ServiceEntryDoc),
        telemetries=_of(values, TelemetryDoc),
        rate_limits=_of(values, RateLimitDoc),
        documents=tuple(documents),
    )


def _read(file: str, text: str, namespace: str, first_line: int) -> _Found:
    """What is wrong with a text, and its documents; most texts of a set are those of the set before it."""
    read = _read_once if len(text) <= _REMEMBERED_CHARS else _read_anew
    return read(file, text, namespace, first_line)


def _read_anew(file: str, text: str, namespace: str, first_line: int) -> _Found:
    report = Report(file)
    try:
        trees = parse(text, file, first_line)
    except DocumentError as error:
        return tuple(error.problems), ()
    found = [_document(tree, report, namespace) for tree in trees]
    return tuple(report.problems), tuple(each for each in found if each is not None)


_read_once = functools.lru_cache(maxsize=2048)(_read_anew)


def _of(values: Iterable[Value], cls: type[T]) -> tuple[T, ...]:
    return tuple(value for value in values if isinstance(value, cls))


def _duplicates(documents: Iterable[Document]) -> Iterable[Problem]:
    first: dict[tuple[str, str, str], Document] = {}
    for document in documents:
        earlier = first.setdefault(document.identity, document)
        if earlier is not document:
            name = f"{document.namespace}/{document.name}".lstrip("/")
            what = f"{document.kind} {name} is defined twice, first at {earlier.place}"
            yield Problem(document.place, what, "remove one of them, or change its name or namespace")


def _document(tree: Tree, report: Report, default_namespace: str) -> tuple[Document, Value] | None:
    root = Cursor(tree.root, "", report)
    if not isinstance(tree.root, Mapping):
        root.problem("a document is a mapping", "begin with apiVersion:, kind: and metadata:")
        return None
    refused = {"status": _WRITTEN_BY_SERVER}
    if any(getattr(value, "text", "").startswith("Cilium") for _, value in tree.root.entries):
        refused["specs"] = _SPECS
    fields = root.fields(("apiVersion", "kind", "metadata", "spec"), refused)
    kind = _kind(fields)
    if kind is None:
        return None
    meta = _meta(fields, kind, default_namespace)
    keys = [getattr(key, "text", "") for key, _ in tree.root.entries]
    is_several = "specs" in refused and "specs" in keys
    is_needed = _KINDS[kind].needs_spec and not is_several
    spec = fields.required("spec", "spec: {…}") if is_needed else fields.get("spec")
    if spec is None and _KINDS[kind].needs_spec:
        return None
    nothing = Mapping((), tree.root.line, tree.root.column)
    value = _KINDS[kind].read(meta, spec if spec is not None else Cursor(nothing, "spec", report))
    document = Document(kind, meta.namespace, meta.name, tree.text, report.file, meta.place, tree.line)
    return document, value


_SPECS = ("holds several rules, one is read per document", "write a document with `spec` for each")
_WRITTEN_BY_SERVER = ("is written by a server, not read", "remove it")


def _kind(fields: Fields) -> str | None:
    at_kind = fields.required("kind", f"kind: one of {', '.join(_WRITTEN)}")
    at_version = fields.required("apiVersion", f"apiVersion: {_ISTIO_NETWORKING[0]} or {_CALICO[0]}")
    if at_kind is None or at_version is None:
        return None
    name, version = at_kind.text(), at_version.text()
    found = [key for key in _KINDS if key.partition(".")[0] == name]
    if not found:
        what, instead = _ELSEWHERE.get(name, ("is not supported by meshpy", ""))
        at_kind.problem(f"the kind {name!r} {what}", instead or suggestion(name, _WRITTEN))
        return None
    fitting = [key for key in found if version in _KINDS[key].versions]
    if not fitting:
        what = f"{name} has no apiVersion {version!r}"
        known = (known for key in found for known in _KINDS[key].versions)
        at_version.problem(what, f"write {' or '.join(known)}")
        return None
    return fitting[0]


def _meta(fields: Fields, kind: str, default_namespace: str) -> Meta:
    place = Place(fields.at.report.file, fields.at.node.line, fields.at.node.column)
    metadata = fields.required("metadata", "metadata: {name: my-policy}")
    if metadata is None:
        return Meta(kind, default_namespace, "", place)
    inner = metadata.fields(
        ("name", "namespace", "labels", "annotations"), dict.fromkeys(_FROM_SERVER, _WRITTEN_BY_SERVER)
    )
    at_name, at_namespace = inner.required("name", "name: my-policy"), inner.get("namespace")
    namespace = at_namespace.text() if at_namespace is not None else default_namespace
    for cursor, word in ((at_name, "name"), (at_namespace, "namespace")):
        if cursor is not None and not _NAME.fullmatch(cursor.text()):
            cursor.problem(f"{cursor.text()!r} is no {word}", "write letters, digits, - and . only")
    if not _KINDS[kind].has_namespace:
        if at_namespace is not None:
            at_namespace.problem(f"{kind} belongs to no namespace", "remove it")
        namespace = ""
    name = at_name.text() if at_name is not None else ""
    return Meta(kind, namespace, name, place, inner.labels("annotations"), inner.labels("labels"))
