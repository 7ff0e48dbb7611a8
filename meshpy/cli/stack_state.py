"""What a stack is on the Swarm at one moment, and the way back to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshpy.cli.engine_api import EngineApi, EngineRefused

__all__ = ["Restored", "StackState", "update_service"]

KINDS = ("networks", "configs", "secrets")
GONE_S = 30.0
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Restored:
    """What the way back took: names of services set back and removed, and of what would not go."""

    set_back: tuple[str, ...]
    removed: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StackState:
    """Args:
    services: full name -> the service as the engine shows it.
    others: ids of the stack's own networks, configs and secrets, by kind.
    """

    stack: str
    services: Mapping[str, Mapping[str, Any]]
    others: Mapping[str, frozenset[str]]

    @classmethod
    def read(cls, engine: EngineApi, stack: str) -> StackState:
        services = {each["Spec"]["Name"]: each for each in engine.of_stack("services", stack)}
        others = {kind: frozenset(_by_id(engine, kind, stack)) for kind in KINDS}
        return cls(stack, services, others)

    def restore(self, engine: EngineApi) -> Restored:
        """Bring the services back to what they were; what came since is removed.

        New services go first: they may hold ports that the old ones need.
        """
        now = StackState.read(engine, self.stack)
        removed = sorted(now.services.keys() - self.services.keys())
        for name in removed:
            engine.delete(f"/services/{now.services[name]['ID']}")
        set_back = []
        for name, before in sorted(self.services.items()):
            if name not in now.services:
                engine.post("/services/create", before["Spec"])
            elif now.services[name]["Spec"] != before["Spec"]:
                update_service(engine, now.services[name], before["Spec"])
            else:
                continue
            set_back.append(name)
        return Restored(tuple(set_back), tuple(removed), self._remove_new(engine))

    def _remove_new(self, engine: EngineApi) -> tuple[str, ...]:
        """Networks go when the last task has left them."""
        deadline = time.monotonic() + GONE_S
        while True:
            left = []
            for kind in KINDS:
                for ident, name in _by_id(engine, kind, self.stack).items():
                    if ident in self.others[kind]:
                        continue
                    try:
                        engine.delete(f"/{kind}/{ident}")
                    except EngineRefused:
                        left.append(name)
            if not left or time.monotonic() > deadline:
                return tuple(left)
            time.sleep(LOOK_S)


def _by_id(engine: EngineApi, kind: str, stack: str) -> dict[str, str]:
    found = engine.of_stack(kind, stack)
    return {each.get("Id") or each["ID"]: each.get("Name") or each["Spec"]["Name"] for each in found}


def update_service(engine: EngineApi, service: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    """Give a service another spec; somebody's change in between makes the engine refuse.

    Raises:
        EngineRefused: it was changed since it was read, or the spec is wrong.
    """
    query = {"version": str(service["Version"]["Index"])}
    engine.post(f"/services/{service['ID']}/update", spec, query)
