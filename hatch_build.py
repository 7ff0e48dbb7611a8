"""Builds the optional compiled codec (proxy/http/native) into the wheel and into editable installs.

Where there is no C compiler, no Python header, or MESHPY_PURE is set, nothing is built and nobody is told:
the Python twin does the same work. One binary, of the limited API, serves every Python from 3.11 on.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "proxy/http/native"
BINARY = f"{FOLDER}/_codec.abi3.so"
_TIMEOUT_S = 120


class CodecHook(BuildHookInterface):
    """`[tool.hatch.build.targets.wheel.hooks.custom]`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Compile before the files of the wheel are gathered."""
        root = Path(self.root)
        (root / BINARY).unlink(missing_ok=True)
        if not build_codec(root):
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"
        build_data["artifacts"].append(BINARY)


def build_codec(root: Path) -> bool:
    """Compile the codec beside its sources; False when it cannot be."""
    is_free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    if os.environ.get("MESHPY_PURE") or sys.implementation.name != "cpython" or is_free_threaded:
        return False
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    command = [*shlex.split(compiler), "-O2", "-shared", "-fPIC", "-fvisibility=hidden"]
    if sys.platform == "darwin":
        command += ["-undefined", "dynamic_lookup"]
    command += ["-I", sysconfig.get_path("include"), *map(str, sorted((root / FOLDER).glob("*.c")))]
    made = root / f"{BINARY}.{os.getpid()}"
    try:
        subprocess.run(
            [*command, "-o", str(made)], check=True, capture_output=True, timeout=_TIMEOUT_S
        )  # the command is ours; CC is the builder's own
        made.replace(root / BINARY)
    except (OSError, subprocess.SubprocessError):
        made.unlink(missing_ok=True)
        return False
    return True
