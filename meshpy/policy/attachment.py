"""What an Istio policy attaches to: the whole namespace, the workloads of a selector, or named services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshpy.errors import Place
from meshpy.policy.kinds import NOWHERE, Meta, ServiceRef
from meshpy.policy.reader import Cursor, Fields, no_meaning

__all__ = ["ATTACHED_BY", "ATTACH_REFUSED", "Attachment", "attachment"]

ATTACHED_BY = ("selector", "targetRefs")
ATTACH_REFUSED = {"targetRef": ("was replaced by a list in Istio 1.22", "write targetRefs: [{…}]")}
_NO_GATEWAY = no_meaning("there are no Gateways to attach to", "write kind: Service, or selector:")


@dataclass(frozen=True, slots=True)
class Attachment:
    """`selector` None and no `refs`: every workload of the namespace.

    Args:
        place: of what was written; nowhere when nothing was.
    """

    selector: Mapping[str, str] | None = None
    place: Place = NOWHERE
    refs: tuple[ServiceRef, ...] = ()


def attachment(fields: Fields, meta: Meta) -> Attachment:
    """Read `selector` or `targetRefs`; both together are a problem, as in Istio."""
    fields.only_one(*ATTACHED_BY)
    at_selector, at_refs = fields.get("selector"), fields.get("targetRefs")
    if at_refs is not None:
        return Attachment(None, at_refs.place, tuple(_ref(item, meta) for item in at_refs.items()))
    if at_selector is None:
        return Attachment()
    labels = at_selector.fields(("matchLabels",)).get("matchLabels")
    return Attachment((labels.labels() if labels is not None else {}) or None, at_selector.place)


def _ref(cursor: Cursor, meta: Meta) -> ServiceRef:
    fields = cursor.fields(("group", "kind", "name", "namespace"))
    at_kind, at_name = fields.required("kind", "kind: Service"), fields.required("name", "name: api")
    if at_kind is not None and at_kind.text() != "Service":
        what = f"the kind {at_kind.text()!r} {_NO_GATEWAY[0]}"
        at_kind.problem(what, _NO_GATEWAY[1])
    at_group, at_namespace = fields.get("group"), fields.get("namespace")
    if at_group is not None and at_group.text() not in ("", "core"):
        at_group.problem(f"{at_group.text()!r} is not the group of Service", 'write group: "", or remove it')
    if at_namespace is not None and at_namespace.text() != meta.namespace:
        what = f"{at_namespace.text()!r} is not the namespace of the policy, {meta.namespace}"
        at_namespace.problem(what, "remove it, and write the policy in the service's namespace")
    return ServiceRef(at_name.text() if at_name is not None else "", meta.namespace, cursor.place)
