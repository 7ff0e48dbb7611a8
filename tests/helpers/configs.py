"""Docker configs in memory, as one Swarm has them: names are unique, contents never change."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from control_plane.errors import DiscoveryError


class Configs:
    """`control_plane.store.swarm.Configs`; `failure` makes every call fail with that text."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self.failure = ""
        self.asked: list[str] = []

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.failure:
            raise DiscoveryError(self.failure)

    async def configs(self, label: str) -> Sequence[Mapping[str, Any]]:
        self._ask("list")
        return [each for each in self.held.values() if label in each["Spec"]["Labels"]]

    async def config(self, name: str) -> Mapping[str, Any] | None:
        self._ask(name)
        return self.held.get(name)

    async def create_config(self, name: str, data: bytes, labels: Mapping[str, str]) -> bool:
        self._ask(f"create {name}")
        if name in self.held:
            return False
        self.held[name] = {
            "ID": f"id-{name}",
            "Version": {"Index": len(self.asked)},
            "Spec": {"Name": name, "Labels": dict(labels), "Data": base64.b64encode(data).decode()},
        }
        return True

    async def relabel_config(self, config: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
        name = config["Spec"]["Name"]
        self._ask(f"label {name}")
        held = self.held.get(name)
        if held is None or held["Version"] != config["Version"]:
            return False
        self.held[name] = {
            **held,
            "Version": {"Index": len(self.asked)},
            "Spec": {**held["Spec"], "Labels": dict(labels)},
        }
        return True

    async def remove_config(self, name: str) -> None:
        self._ask(f"remove {name}")
        self.held.pop(name, None)
