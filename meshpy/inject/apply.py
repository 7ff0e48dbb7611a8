"""The plan carried out on the text: what must change is changed, then read back and compared."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from meshpy.errors import DocumentError, Problem
from meshpy.inject.edit import Editor, find
from meshpy.inject.goyaml import MappingNode, Node, SequenceNode, aliases_in, construct
from meshpy.inject.groups import group_networks
from meshpy.inject.members import Member, Plan
from meshpy.inject.original import ROOT_KEY
from meshpy.inject.outbound import with_proxy
from meshpy.inject.schema import minor_version
from meshpy.inject.sidecar import (
    CA_CONFIG,
    cache_volumes,
    is_proxy_label,
    join_secret,
    network_definition,
    secret_key,
    sidecar_service,
)
from meshpy.inject.stackfile import StackFile
from meshpy.inject.words import pairs, text_of

__all__ = ["apply_plan"]

NEEDS_MINOR = 5
"""What is written needs `name:` of externals (3.5), root x- keys, start-first, start_period (3.4)."""

ABSENT = object()


def apply_plan(plan: Plan, packed: Mapping[str, Any], prefix: str = "") -> str:
    """The injected text.

    Args:
        packed: the original, for `x-meshpy`.
        prefix: a byte order mark that stood before the text.

    Raises:
        DocumentError: the file is built in a way that the rewriting cannot follow; the place is named.
    """
    wanted = _wanted(plan)
    text, wrong = _edit(plan, wanted, packed), [""]
    for _ in range(3):
        stack = StackFile.parse(text, plan.stack.file)
        wrong = [key for key, value in wanted.items() if stack.value["services"].get(key) != value]
        if not wrong:
            return prefix + text
        text = _override(stack, wanted, wrong)
    key = wrong[0]
    what = f"the service `{key}` is tied to others by anchors in a way that cannot be rewritten"
    raise DocumentError([plan.stack.problem(("services", key), what, "write the service out, without `<<`")])


def _wanted(plan: Plan) -> dict[str, Any]:
    """Every service of the result by its key: untouched ones as they are."""
    wanted: dict[str, Any] = {}
    for member in plan.members:
        wanted[member.key] = _marked(member) if member.exempt else _app(plan, member)
    for member in plan.meshed:
        wanted[f"{member.key}-sidecar"] = sidecar_service(plan, member)
    return wanted


def _app(plan: Plan, member: Member) -> dict[str, Any]:
    """The app alone with its sidecar: pod networks only, no ports, no labels that lead proxies to it.

    A permissive one gets the pod networks besides and keeps all else.
    """
    service = deepcopy(dict(member.service))
    if plan.settings.permissive:
        before = service.get("networks") or ["default"]
        keys = _keys(member)
        service["networks"] = (
            {**before, **dict.fromkeys(keys)} if isinstance(before, dict) else [*before, *keys]
        )
        return service
    service.pop("ports", None)
    if member.outbound:
        service["environment"] = with_proxy(member)
    theirs = {alias.lower() for pod in member.pods for alias in pod.aliases}
    own = [alias for a in member.attachments for alias in a.aliases if alias.lower() not in theirs]
    keys = _keys(member)
    service["networks"] = {key: {"aliases": list(dict.fromkeys(own))} for key in keys} if own else keys
    labels = (service.get("deploy") or {}).get("labels")
    if any(is_proxy_label(name) for name, _, _ in pairs(labels)):
        deploy = service["deploy"]
        kept = _kept(labels)
        if kept:
            deploy["labels"] = kept
        else:
            del deploy["labels"]
    return service


def _keys(member: Member) -> list[str]:
    """Networks of the app: those with its sidecar, and the one with its peers."""
    return [pod.key for pod in member.pods] + ([member.group_network] if member.group_network else [])


def _kept(labels: Any) -> Any:
    if isinstance(labels, list):
        return [item for item in labels if not is_proxy_label(text_of(item).partition("=")[0])]
    return {name: value for name, value in labels.items() if not is_proxy_label(name)}


def _marked(member: Member) -> dict[str, Any]:
    """An exempt service as it is, with the labels that say so."""
    service = deepcopy(dict(member.service))
    deploy = dict(service.get("deploy") or {})
    said = {name for name, _, _ in pairs(deploy.get("labels"))}
    extra = {"meshpy.exempt": member.exempt}
    if member.ports and "meshpy.ports" not in said:
        extra["meshpy.ports"] = ",".join(f"{port.text}/{port.protocol}" for port in member.ports)
    labels = deploy.get("labels")
    if isinstance(labels, list):
        deploy["labels"] = [*labels, *(f"{name}={text}" for name, text in extra.items())]
    else:
        deploy["labels"] = {**(labels or {}), **extra}
    service["deploy"] = deploy
    return service


def _edit(plan: Plan, wanted: Mapping[str, Any], packed: Mapping[str, Any]) -> str:
    stack = plan.stack
    editor = Editor.of(stack.text)
    services = _own(editor, stack.root, "services")
    if services is None:
        problem = stack.problem(("services",), "`services` comes from an anchor", "write the services out")
        raise DocumentError([problem])
    for member in plan.members:
        _change_service(editor, services, member.key, member.service, wanted[member.key])
    for member in plan.meshed:
        key = f"{member.key}-sidecar"
        editor.append(services, key, wanted[key])
    minor = minor_version(stack.value.get("version"))
    if minor < NEEDS_MINOR:
        editor.set(stack.root, "version", "3.8")
    for section, definitions in _sections(plan).items():
        _extend(editor, stack, section, definitions)
    editor.append(stack.root, ROOT_KEY, dict(packed))
    _save_aliases(editor, stack)
    return editor.result()


def _sections(plan: Plan) -> dict[str, dict[str, Any]]:
    if not plan.meshed:
        return {}
    networks: dict[str, Any] = {pod.key: network_definition(plan) for m in plan.meshed for pod in m.pods}
    networks |= group_networks(plan.meshed, network_definition(plan))
    networks[plan.mesh_key] = {"external": True, "name": plan.settings.mesh_network}
    if any(m.has_way_out for m in plan.meshed):
        networks[plan.egress_key] = {"driver": "overlay"}
    # A network that a service uses only by default, such as `default` itself, needs no definition.
    secrets = {
        secret_key(m.key): {"external": True, "name": join_secret(plan.stack_name, m.key)}
        for m in plan.meshed
    }
    sections = {
        "networks": networks,
        "secrets": secrets,
        "configs": {CA_CONFIG: {"external": True, "name": CA_CONFIG}},
    }
    volumes = cache_volumes(plan)
    return sections | {"volumes": volumes} if volumes else sections


def _own(editor: Editor, mapping: Node, name: str) -> MappingNode | None:
    """The mapping under a key when it is written there, not merged and no alias."""
    found = find(mapping, name)
    if found is None or not isinstance(found[1], MappingNode) or not editor.is_own(found[1], found[0]):
        return None
    return found[1]


def _extend(editor: Editor, stack: StackFile, section: str, definitions: Mapping[str, Any]) -> None:
    known = dict(stack.value.get(section) or {})
    for key in known.keys() & definitions.keys() if section != "networks" else ():
        raise DocumentError([stack.problem((section, key), f"the mesh needs the name `{key}`", "rename it")])
    new = {key: value for key, value in definitions.items() if key not in known}
    mapping = _own(editor, stack.root, section)
    if mapping is None or not mapping.value:
        editor.set(stack.root, section, {**known, **new})
        return
    for key, value in new.items():
        editor.append(mapping, key, value)


def _change_service(
    editor: Editor, services: MappingNode, key: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Turn one service into what it shall be, by its own entries; merged ones are overridden later."""
    if before == after:
        return
    node = _own(editor, services, key)
    if node is None or not node.value:
        editor.set(services, key, after)
        return
    if node.anchor is not None and node.flow_style:
        editor.set(services, key, after)
        return
    _change_environment(editor, node, before.get("environment"), after.get("environment"))
    for name in ("ports", "networks"):
        if before.get(name, ABSENT) != after.get(name, ABSENT):
            _change_entry(editor, node, name, after.get(name, ABSENT))
    if before.get("deploy", ABSENT) != after.get("deploy", ABSENT):
        _change_deploy(editor, node, before.get("deploy") or {}, after["deploy"])


def _change_environment(editor: Editor, service: MappingNode, before: Any, after: Any) -> None:
    """What is new stands behind what is there, in its own form."""
    if before == after:
        return
    found = find(service, "environment")
    node = found[1] if found and editor.is_own(found[1], found[0]) else None
    if isinstance(before, dict) and isinstance(node, MappingNode) and not node.flow_style and node.value:
        _change_labels(editor, node, before, after)
    elif isinstance(before, list) and isinstance(node, SequenceNode) and editor.has_own_lines(node):
        _change_items(editor, node, before, after)
    else:
        editor.set(service, "environment", after)


def _change_entry(editor: Editor, mapping: MappingNode, name: str, value: Any) -> None:
    if value is not ABSENT:
        editor.set(mapping, name, value)
    elif find(mapping, name) is not None:
        if mapping.flow_style:
            editor.set(mapping, name, [])
        else:
            editor.remove(mapping, name)


def _change_deploy(
    editor: Editor, service: MappingNode, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    deploy = _own(editor, service, "deploy")
    if deploy is None or not deploy.value or deploy.flow_style:
        editor.set(service, "deploy", dict(after))
        return
    old, new = before.get("labels"), after.get("labels", ABSENT)
    found = find(deploy, "labels")
    labels = found[1] if found and editor.is_own(found[1], found[0]) else None
    if new is ABSENT:
        if len(deploy.value) == 1:
            editor.set(service, "deploy", {})
        else:
            editor.remove(deploy, "labels")
    elif isinstance(labels, MappingNode) and not labels.flow_style and isinstance(old, dict) and labels.value:
        _change_labels(editor, labels, old, new)
    elif (
        isinstance(labels, SequenceNode)
        and editor.has_own_lines(labels)
        and labels.value
        and isinstance(old, list)
    ):
        _change_items(editor, labels, old, new)
    else:
        editor.set(deploy, "labels", new)


def _change_labels(
    editor: Editor, labels: MappingNode, old: Mapping[str, Any], new: Mapping[str, Any]
) -> None:
    for name in old:
        if name not in new:
            editor.remove(labels, name)
    for name, value in new.items():
        if name not in old:
            editor.append(labels, name, value)


def _change_items(editor: Editor, labels: SequenceNode, old: list[Any], new: list[Any]) -> None:
    kept = [text_of(item) for item in new]
    for index, item in enumerate(old):
        if text_of(item) not in kept:
            editor.remove_item(labels, index)
    for item in new[len(old) :]:
        editor.append_item(labels, item)


def _save_aliases(editor: Editor, stack: StackFile) -> None:
    """Anchors that a change removed are written out where they are used."""
    gone = [(c.start, c.end) for c in editor.changes if c.end > c.start]
    nodes = _anchored(stack.root)
    lost = {name for name, node in nodes if any(start <= node.start_mark.index < end for start, end in gone)}
    if not lost:
        return
    for start, end, name in aliases_in(stack.text):
        if name in lost and not any(a <= start < b for a, b in gone):
            node = [n for label, n in nodes if label == name and n.start_mark.index < start][-1]
            editor.inline(start, end, construct(node, stack.file))


def _anchored(root: Node) -> list[tuple[str, Node]]:
    """Every node with an anchor, in the order of the text."""
    found: dict[int, tuple[str, Node]] = {}
    seen: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.anchor is not None:
            found[node.start_mark.index] = (str(node.anchor), node)
        if isinstance(node, MappingNode):
            todo += [part for pair in node.value for part in pair]
        elif isinstance(node, SequenceNode):
            todo += node.value
    return [found[index] for index in sorted(found)]


def _override(stack: StackFile, wanted: Mapping[str, Any], wrong: list[str]) -> str:
    """Set keys on services that inherit a changed key by `<<`: an own key wins over a merged one."""
    editor = Editor.of(stack.text)
    services = _own(editor, stack.root, "services")
    if services is None:
        raise DocumentError([Problem(stack.place(("services",)), "`services` cannot be rewritten")])
    for key in wrong:
        node = _own(editor, services, key)
        have = stack.value["services"].get(key)
        if node is None or not isinstance(have, dict):
            editor.set(services, key, wanted[key])
            continue
        for name in dict.fromkeys((*have, *wanted[key])):
            value = wanted[key].get(name, ABSENT)
            if have.get(name, ABSENT) != value:
                editor.set(node, name, _empty(have[name]) if value is ABSENT else value)
                if value is ABSENT:
                    wanted[key][name] = _empty(have[name])
    return editor.result()


def _empty(value: Any) -> Any:
    return [] if isinstance(value, list) else {} if isinstance(value, dict) else None
