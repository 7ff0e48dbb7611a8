"""Builds the optional compiled parts: the codec (proxy/http/native) and the hot modules (proxy.compiled).

Where there is no C compiler, no Python header, or MESHPY_PURE is set, nothing is built and nobody is told:
the sources in Python do the same work. The codec, of the limited API, serves every Python from 3.11 on; the
hot modules are built by mypyc for this Python: into wheels with MESHPY_COMPILE=1, and by `make compiled`.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "proxy/http/native"
BINARY = f"{FOLDER}/_codec.abi3.so"
_TIMEOUT_S = 600
_MYPY = ["--config-file=", "--ignore-missing-imports"]
"""A build environment holds no package that the modules import: strictness is for `make lint`."""
_TRANSLATORS = ["mypy>=2.4,<2.5", "setuptools"]


class CodecHook(BuildHookInterface):
    """`[tool.hatch.build.targets.wheel.hooks.custom]`."""

    def dependencies(self) -> list[str]:
        """What a build needs beyond hatchling; without it the codec alone is compiled."""
        return _TRANSLATORS if os.environ.get("MESHPY_COMPILE") else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files of the wheel are gathered."""
        root = Path(self.root)
        (root / BINARY).unlink(missing_ok=True)
        made = [BINARY] if build_codec(root) else []
        tag = "cp311-abi3"
        if (
            made
            and os.environ.get("MESHPY_COMPILE")
            and version != "editable"
            and (hot := build_hot(root)) is not None
        ):
            made.append(str(hot.relative_to(root)))
            tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
            tag = f"{tag}-{tag}"
        if made:
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"{tag}-{platform}"
            build_data["artifacts"] += made


def build_codec(root: Path) -> bool:
    """Compile the codec beside its sources; False when it cannot be."""
    return _compile(root / BINARY, sorted((root / FOLDER).glob("*.c")), ["-O2"])


def build_hot(root: Path) -> Path | None:
    """Compile the hot modules beside the package; where, or None when they cannot be."""
    names = _names(root)
    binary: Path = names.binary_of(root)
    if binary.exists():
        return binary
    with tempfile.TemporaryDirectory() as folder:
        try:
            files, flags = _translate(names, root, Path(folder))
        except (ImportError, OSError, SystemExit):
            return None
        # Sources that changed while they were read are not what the name would say.
        if names.binary_of(root) != binary or not _compile(binary, files, flags):
            return None
    for stale in (root / "proxy").glob("hot-*.so"):
        if stale != binary:
            stale.unlink()
    return binary


def _names(root: Path) -> ModuleType:
    """`proxy.compiled`, alone: the package needs more than a build environment has."""
    spec = importlib.util.spec_from_file_location("compiled", root / "proxy/compiled.py")
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it is a file of ours
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _translate(names: ModuleType, root: Path, folder: Path) -> tuple[list[Path], list[str]]:
    """Have mypyc write C: the files, and what the compiler is told.

    Raises:
        ImportError: no mypyc here.
        SystemExit: mypy finds a fault.
    """
    from mypyc.build import include_dir, mypyc_build  # noqa: PLC0415
    from mypyc.options import CompilerOptions  # noqa: PLC0415

    group = names.LIBRARY.removesuffix("__mypyc")
    options = CompilerOptions(target_dir=str(folder), group_name=group, include_runtime_files=True)
    before = Path.cwd()
    os.chdir(root)
    try:
        sources = [str(source.relative_to(root)) for source in names.sources_of(root)]
        mypyc_build([*_MYPY, *sources], options)
    finally:
        os.chdir(before)
    entries = folder / "entries.c"
    entries.write_text(_entries(names.LIBRARY, names.MODULES))
    flags = ["-O2", "-s", "-fno-strict-aliasing", "-w", f"-ffile-prefix-map={folder}=."]
    flags += ["-I", include_dir(), "-I", str(folder)]
    return [folder / f"__native_{group}.c", entries], flags


def _entries(library: str, modules: tuple[str, ...]) -> str:
    """The entry of each module into the one binary, in C."""
    lines = ["#include <Python.h>", f"PyMODINIT_FUNC PyInit_{library}(void);"]
    for name in modules:
        entry = name.replace(".", "___")
        lines.append(
            f"PyObject *CPyInit_{entry}(void);\n"
            f"PyMODINIT_FUNC PyInit_{entry}(void)\n"
            "{\n"
            f"    PyObject *library = PyInit_{library}();\n"
            "    if (!library)\n"
            "        return NULL;\n"
            "    Py_DECREF(library);\n"
            f"    return CPyInit_{entry}();\n"
            "}"
        )
    return "\n".join(lines) + "\n"


def _compile(binary: Path, sources: list[Path], flags: list[str]) -> bool:
    """Make a shared library; False when it cannot be."""
    is_free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    if os.environ.get("MESHPY_PURE") or sys.implementation.name != "cpython" or is_free_threaded:
        return False
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    command = [*shlex.split(compiler), *flags, "-shared", "-fPIC", "-fvisibility=hidden"]
    if sys.platform == "darwin":
        command += ["-undefined", "dynamic_lookup"]
    command += ["-I", sysconfig.get_path("include"), *map(str, sources)]
    made = binary.with_name(f"{binary.name}.{os.getpid()}")
    try:
        subprocess.run(
            [*command, "-o", str(made)], check=True, capture_output=True, timeout=_TIMEOUT_S
        )  # the command is ours; CC is the builder's own
        made.replace(binary)
    except (OSError, subprocess.SubprocessError):
        made.unlink(missing_ok=True)
        return False
    return True


if __name__ == "__main__":
    here = Path(__file__).parent
    print("codec:", "built" if build_codec(here) else "not built")  # noqa: T201 - what `make compiled` tells
    print("hot modules:", build_hot(here) or "not built")  # noqa: T201
