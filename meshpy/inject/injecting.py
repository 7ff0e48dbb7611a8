"""The three doors: inject, uninject, and the inventory that a deployed stack would have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from meshpy.errors import DocumentError
from meshpy.inject import emit
from meshpy.inject.apply import apply_plan
from meshpy.inject.edit import Editor, find
from meshpy.inject.goyaml import MappingNode
from meshpy.inject.inventory import inventory_of_plan
from meshpy.inject.members import Plan
from meshpy.inject.options import InjectOptions
from meshpy.inject.original import ROOT_KEY, Original, pack, unpack
from meshpy.inject.plan import make_plan
from meshpy.inject.report import Report, report_of
from meshpy.inject.schema import check
from meshpy.inject.short_form import policies_of_plan
from meshpy.inject.stackfile import BOM, StackFile
from meshpy.model.inventory import Inventory
from meshpy.policy import Document

__all__ = [
    "Injected",
    "inject",
    "inventory_of_stack",
    "only_sidecars",
    "policies_of_stack",
    "uninject",
    "without_sidecars",
]


@dataclass(frozen=True, slots=True)
class Injected:
    """The rewritten stack and what was done."""

    text: str
    report: Report


def inject(text: str, *, stack: str, file: str = "-", options: InjectOptions | None = None) -> Injected:
    """Rewrite a stack file so that each of its services sits behind a sidecar.

    An injected file is restored and injected anew, so `inject(inject(x)) == inject(x)`.

    Args:
        stack: the name it will be deployed under; names of networks and secrets contain it.

    Raises:
        DocumentError: every problem with its place and its remedy; nothing is half done.
    """
    chosen = options or InjectOptions()
    parsed, before = _restored(text, file)
    if before is not None:
        chosen = _again(chosen, before.options)
        if (stack, chosen) == (before.stack, before.options):
            return Injected(text, report_of(_planned(parsed, stack, chosen)))
        text = before.text
    plan = _planned(parsed, stack, chosen)
    policies_of_plan(plan)
    return Injected(_applied(plan, text, chosen), report_of(plan))


def uninject(text: str, file: str = "-") -> str:
    """Give back the original, byte for byte.

    Raises:
        DocumentError: the file was not injected, or was edited since: the first difference is named.
    """
    _, before = _restored(text, file)
    if before is None:
        problem = StackFile.parse(text, file).problem((), "this file was not written by `meshpy inject`")
        raise DocumentError([replace(problem, instead=f"there is no `{ROOT_KEY}` in it")])
    return before.text


def inventory_of_stack(
    text: str, stack_name: str, file: str = "-", options: InjectOptions | None = None
) -> Inventory:
    """The inventory that discovery gives after this stack is injected and deployed, without endpoints.

    Works on a plain stack file and on an injected one.

    Raises:
        DocumentError: as `inject`.
    """
    return inventory_of_plan(_plan_of(text, stack_name, file, options))


def policies_of_stack(
    text: str, stack_name: str, file: str = "-", options: InjectOptions | None = None
) -> tuple[Document, ...]:
    """The policies that a stack file states itself: `x-mesh` and `meshpy.*` labels.

    Raises:
        DocumentError: as `inject`.
    """
    return policies_of_plan(_plan_of(text, stack_name, file, options))


def _plan_of(text: str, stack_name: str, file: str, options: InjectOptions | None) -> Plan:
    parsed, before = _restored(text, file)
    chosen = options or InjectOptions()
    if before is not None:
        chosen = _again(chosen, before.options)
    return _planned(parsed, stack_name, chosen)


def only_sidecars(text: str, file: str = "-") -> str:
    """The injected stack without its apps: deployed first, so that every app finds its sidecar listening."""
    parsed = StackFile.parse(text, file)
    value: dict[str, Any] = {k: v for k, v in parsed.value.items() if not k.startswith("x-")}
    services = {
        key: service
        for key, service in parsed.value.get("services", {}).items()
        if key.endswith("-sidecar") and _is_sidecar(service)
    }
    value["services"] = services
    for section, kind in (("secrets", "secrets"), ("configs", "configs")):
        used = {item["source"] for service in services.values() for item in service.get(kind, ())}
        value[section] = {k: v for k, v in (value.get(section) or {}).items() if k in used}
    mounted = {
        str(each).partition(":")[0] for service in services.values() for each in service.get("volumes", ())
    }
    value["volumes"] = {k: v for k, v in (value.get("volumes") or {}).items() if k in mounted}
    if not value["volumes"]:
        del value["volumes"]
    lines = [line for key, part in value.items() for line in emit.block(key, part, 0)]
    return "\n".join(lines) + "\n"


def without_sidecars(text: str, file: str = "-") -> str:
    """The injected stack with its apps alone: deployed first where callers must not lose them meanwhile."""
    parsed = StackFile.parse(text, file)
    editor = Editor.of(parsed.text)
    found = find(parsed.root, "services")
    services = found[1] if found else None
    if not isinstance(services, MappingNode):
        return text
    every = parsed.value["services"]
    sidecars = [key for key, service in every.items() if key.endswith("-sidecar") and _is_sidecar(service)]
    if services.flow_style:  # there is no line to take away
        editor.set(parsed.root, "services", {key: every[key] for key in every if key not in sidecars})
    for key in sidecars if not services.flow_style else ():
        editor.remove(services, key)
    return editor.result()


def _is_sidecar(service: Any) -> bool:
    labels = (service.get("deploy") or {}).get("labels") or ()
    return any(str(label).startswith("meshpy.workload") for label in labels)


def _again(chosen: InjectOptions, before: InjectOptions) -> InjectOptions:
    """Options of now before those of the earlier injection."""
    every = {name: getattr(chosen, name) for name in InjectOptions.__slots__}
    said = {name: value for name, value in every.items() if value is not None}
    said["assume"] = {**before.assume, **chosen.assume}
    said["found"] = {**before.found, **chosen.found}
    return replace(before, **said)


def _restored(text: str, file: str) -> tuple[StackFile, Original | None]:
    """The file as its author wrote it; what was packed when it comes from an injection.

    Raises:
        DocumentError: it was edited after the injection, which a new injection would undo unseen.
    """
    parsed = StackFile.parse(text, file)
    before = unpack(parsed)
    if before is None:
        return parsed, None
    original = StackFile.parse(before.text, file)
    expected = _applied(_planned(original, before.stack, before.options), before.text, before.options)
    if expected != text:
        edited = _differences(StackFile.parse(expected, file), parsed)
        what = "edited since it was injected"
        instead = (
            "edit the original (`meshpy uninject` of the unedited file gives it back) and inject it again"
        )
        places = edited or [()]
        raise DocumentError([parsed.problem(path, what, instead) for path in places])
    return original, before


def _applied(plan: Plan, text: str, options: InjectOptions) -> str:
    prefix = BOM if text.startswith(BOM) else ""
    return apply_plan(plan, pack(text, plan.stack_name, options), prefix)


def _differences(expected: StackFile, found: StackFile) -> list[tuple[str | int, ...]]:
    """Keys of services and of root sections that differ."""
    paths: list[tuple[str | int, ...]] = []
    for section in dict.fromkeys((*expected.value, *found.value)):
        one, two = expected.value.get(section), found.value.get(section)
        if one == two:
            continue
        if not isinstance(one, dict) or not isinstance(two, dict):
            paths.append((section,))
            continue
        for name in dict.fromkeys((*one, *two)):
            if one.get(name) != two.get(name):
                paths += _below((section, name), one.get(name), two.get(name))
    return paths


def _below(path: tuple[str | int, ...], one: Any, two: Any) -> list[tuple[str | int, ...]]:
    if not isinstance(one, dict) or not isinstance(two, dict):
        return [path]
    return [(*path, key) for key in dict.fromkeys((*one, *two)) if one.get(key) != two.get(key)]


def _planned(parsed: StackFile, stack: str, options: InjectOptions) -> Plan:
    problems = check(parsed)
    if problems:
        raise DocumentError(sorted(problems))
    return make_plan(parsed, stack, options)
