"""Somebody who follows the documents word by word on the Swarm of the tests."""

import os
import re
import sys
from pathlib import Path

from tests.helpers.mesh import ROOT, Mesh
from tests.helpers.walk import Step, follow, missing, steps_of

# What the quick start says to kernels without IP_VS and ESP, as those are where the tests run.
PLAIN = "--endpoint-mode dnsrr --no-encrypt"


class Reader:
    """This checkout, a shell, and `meshpy` on the path."""

    def __init__(self, mesh: Mesh, folder: Path) -> None:
        self.folder = folder
        (folder / "stacks").symlink_to(ROOT / "stacks")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = mesh.env | {"PATH": path, "LC_ALL": "C.UTF-8"}

    def follow(self, page: str, *, leave_out: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> None:
        """Do what the page says, and look for what it says is seen.

        Args:
            leave_out, only: steps by their names.
        """
        for step in steps_of((ROOT / page).read_text()):
            if step.name in leave_out or (only and step.name not in only):
                continue
            commands = re.sub(rf"\bmeshpy deploy (?!{PLAIN})", f"meshpy deploy {PLAIN} ", step.commands)
            printed = follow(Step(step.name, commands), self.folder, self.env)
            assert not (lost := missing(step.seen, printed)), f"not seen: {lost}\n{commands}\n{printed}"
