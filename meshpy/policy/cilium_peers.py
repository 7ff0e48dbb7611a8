"""The other end of a Cilium rule: endpoints by label, entities, CIDRs, services, names."""

from __future__ import annotations

import re

from meshpy.model.match import Exact, Regex, StringMatch
from meshpy.policy.kinds import Meta, PeerDoc, SelectorDoc, ServiceRef
from meshpy.policy.label_selector import label_selector
from meshpy.policy.reader import Cursor, Fields, no_meaning
from meshpy.policy.selectors import All, And, Compare, Has, Member, Not, Selector, show
from meshpy.policy.strings import cidr, cidr_outside

__all__ = ["PEER_REFUSALS", "endpoint_selector", "peers"]

NAMESPACE = "projectcalico.org/namespace"
_ACCOUNT = "projectcalico.org/serviceaccount"
_SPACE_LABELS = "io.cilium.k8s.namespace.labels."
_SPACE_NAMES = ("name", "stack", "kubernetes.io/metadata.name", "projectcalico.org/name")
_NODES = no_meaning("nodes do not speak on the mesh", "write the entity world: who has no identity")
PEER_REFUSALS = {
    "fromRequires": ("is deprecated and combines with other rules", "write its labels into fromEndpoints"),
    "toRequires": ("is deprecated and combines with other rules", "write its labels into toEndpoints"),
    "fromGroups": no_meaning("it names groups of a cloud"),
    "toGroups": no_meaning("it names groups of a cloud"),
    "fromNodes": _NODES,
    "toNodes": _NODES,
}
_ENTITIES = ("all", "world", "world-ipv4", "cluster")
_OTHER_ENTITIES = {
    "host": _NODES,
    "remote-node": _NODES,
    "kube-apiserver": no_meaning("there is no Kubernetes here", "write toFQDNs: or toCIDR: with its address"),
    "ingress": no_meaning("published ports are the ingress", "write world"),
    "init": no_meaning("a service has its identity from the start"),
    "health": no_meaning("sidecars probe their own app"),
    "unmanaged": no_meaning("services without a sidecar have no identity to tell them by", "write world"),
    "world-ipv6": no_meaning("overlay networks of a Swarm carry IPv4 here", "write world"),
    "none": ("means nobody", "write `- {}` as the whole rule"),
}
_LABEL = r"[-a-z0-9_]"


def endpoint_selector(cursor: Cursor, namespace: str) -> SelectorDoc:
    """A selector of endpoints; inside `namespace` unless it speaks of namespaces itself (Cilium)."""
    found = label_selector(cursor, _label_name)
    if not namespace or NAMESPACE in _keys(found.selector):
        return found
    return _and(found, Compare(NAMESPACE, "==", namespace))


def _and(doc: SelectorDoc, term: Selector) -> SelectorDoc:
    match doc.selector:
        case All():
            selector: Selector = term
        case And(operands):
            selector = And((*operands, term))
        case other:
            selector = And((other, term))
    return SelectorDoc(show(selector), selector, doc.place)


def _keys(selector: Selector) -> set[str]:
    match selector:
        case And(operands):
            return {key for operand in operands for key in _keys(operand)}
        case Not(operand):
            return _keys(operand)
        case Compare(key=key) | Has(key=key) | Member(key=key):
            return {key}
        case _:
            return set()


def _label_name(cursor: Cursor, text: str) -> str:
    """`k8s:app` and `any:app` are `app`; Cilium's own labels of namespaces and accounts have others here."""
    source, colon, name = text.partition(":")
    if not colon:
        name = text
    elif source not in ("k8s", "any"):
        cursor.problem(f"labels of the source {source!r} are not known", "write k8s:NAME, or fromEntities:")
    if name == "io.kubernetes.pod.namespace":
        return NAMESPACE
    if name == "io.cilium.k8s.policy.serviceaccount":
        return _ACCOUNT
    if name.startswith(_SPACE_LABELS):
        label = name.removeprefix(_SPACE_LABELS)
        if label not in _SPACE_NAMES:
            what = f"a stack has no label {label!r}, only its name"
            cursor.problem(what, "write io.kubernetes.pod.namespace: NAME")
        return NAMESPACE
    if name.startswith("io.cilium.k8s.policy.cluster"):
        cursor.problem("there are no other clusters", "remove it")
    return name


def peers(fields: Fields, names: list[str], meta: Meta) -> list[tuple[str, PeerDoc]]:
    """Each alternative with the part of the rule's name that tells it; empty when the rule names no peer."""
    found: list[tuple[str, PeerDoc]] = []
    for name in names:
        for index, item in enumerate(fields.items(name)):
            suffix = f".{name}[{index}]"
            found += [(suffix, peer) for peer in _peer(item, name, meta)]
    return found


def _peer(cursor: Cursor, name: str, meta: Meta) -> list[PeerDoc]:
    if name.endswith("Endpoints"):
        return [_among(cursor, endpoint_selector(cursor, meta.namespace))]
    if name.endswith("Entities"):
        return _entity(cursor)
    if name.endswith("CIDR"):
        return [_outside(cursor, (cidr(cursor),))]
    if name.endswith("CIDRSet"):
        return [_cidr_set(cursor)]
    if name == "toServices":
        return [_service(cursor, meta)]
    return [_name(cursor)]


def _among(cursor: Cursor, selector: SelectorDoc) -> PeerDoc:
    every = SelectorDoc("all()", All(), cursor.place)
    return PeerDoc(cursor.place, selector, namespace_selector=every, takes_sets=False)


def _outside(
    cursor: Cursor, nets: tuple[str, ...] | None = None, not_nets: tuple[str, ...] | None = None
) -> PeerDoc:
    """What has no identity. CIDRs mean these alone: between endpoints Cilium compares labels."""
    return PeerDoc(cursor.place, nets=nets, not_nets=not_nets, takes_sets=False, is_outside=True)


def _entity(cursor: Cursor) -> list[PeerDoc]:
    text = cursor.text()
    if text in _OTHER_ENTITIES:
        what, instead = _OTHER_ENTITIES[text]
        cursor.problem(f"the entity {text!r} {what}", instead)
        return []
    cursor.choice(_ENTITIES)
    if text == "all":
        return [PeerDoc(cursor.place, takes_sets=False)]
    if text == "cluster":
        return [_among(cursor, SelectorDoc("all()", All(), cursor.place))]
    return [_outside(cursor)]


def _cidr_set(cursor: Cursor) -> PeerDoc:
    groups = ("is not supported yet by meshpy", "write cidr:, or a Calico NetworkSet")
    fields = cursor.fields(("cidr", "except"), {"cidrGroupRef": groups, "cidrGroupSelector": groups})
    at_cidr = fields.required("cidr", "cidr: 10.0.0.0/8")
    net = cidr(at_cidr) if at_cidr is not None else "0.0.0.0/32"
    excepted = tuple(cidr_outside(item, net) for item in fields.items("except"))
    return _outside(cursor, (net,), excepted or None)


def _service(cursor: Cursor, meta: Meta) -> PeerDoc:
    fields = cursor.fields(("k8sService", "k8sServiceSelector"))
    kind = fields.only_one("k8sService", "k8sServiceSelector")
    inner = fields.get(kind)
    if inner is None:
        cursor.problem("names no service", "write k8sService: {serviceName: catalog}")
        return PeerDoc(cursor.place)
    if kind == "k8sService":
        named = inner.fields(("serviceName", "namespace"))
        named.required("serviceName", "serviceName: catalog")
        ref = ServiceRef(named.text("serviceName"), named.text("namespace"), inner.place)
        return PeerDoc(cursor.place, service=ref, takes_sets=False)
    by_label = inner.fields(("selector", "namespace"))
    at_selector = by_label.required("selector", "selector: {matchLabels: {app: catalog}}")
    space = by_label.text("namespace", meta.namespace)
    return _among(cursor, endpoint_selector(at_selector if at_selector is not None else inner, space))


def _name(cursor: Cursor) -> PeerDoc:
    """`toFQDNs`: a host outside the mesh, by the name that the app calls."""
    fields = cursor.fields(("matchName", "matchPattern"))
    kind = fields.only_one("matchName", "matchPattern")
    value = fields.get(kind)
    if value is None:
        cursor.problem("names no host", "write matchName: api.example.com")
        return PeerDoc(cursor.place)
    text = value.text().lower().rstrip(".")
    if not re.fullmatch(r"[-a-z0-9_.]+" if kind == "matchName" else r"[-a-z0-9_.*]+", text):
        value.problem(f"{text!r} is no host name", "write api.example.com, a * only in matchPattern")
    domain: StringMatch = Exact(text) if kind == "matchName" else _pattern(text)
    return PeerDoc(cursor.place, domains=(domain,), takes_sets=False)


def _pattern(text: str) -> StringMatch:
    """`*` is any characters but a dot, `*` alone is every name, a leading `**.` is any number of labels."""
    if text == "*":
        return Regex(".+")
    deep = text.startswith("**.")
    parts = text.removeprefix("**.").split("*")
    pattern = f"{_LABEL}*".join(re.escape(part) for part in parts)
    return Regex(f"(?:{_LABEL}+\\.)+{pattern}" if deep else pattern)
