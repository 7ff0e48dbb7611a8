"""Compiled twins of the hot modules, taken instead of their sources where they are there and fresh.

`hatch_build.py` compiles the modules named here, as they stand, into one binary (mypyc). Its name carries a
digest of their sources: after an edit the sources run again until it is built anew. MESHPY_PURE=1, another
interpreter or a missing binary have the same effect; nothing but speed depends on it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

__all__ = ["LIBRARY", "MODULES", "binary_of", "prefer", "sources_of"]

LIBRARY = "meshpy_hot__mypyc"

MODULES = (
    "proxy.access_log",
    "proxy.admitted",
    "proxy.caller",
    "proxy.clusters",
    "proxy.decide.balance",
    "proxy.decide.grpc",
    "proxy.decide.headers",
    "proxy.decide.outlier",
    "proxy.decide.progress",
    "proxy.decide.retry",
    "proxy.decide.tracing",
    "proxy.downstream.h1",
    "proxy.downstream.h1_answers",
    "proxy.downstream.h1_tunnel",
    "proxy.downstream.h1_watch",
    "proxy.downstream.h2",
    "proxy.downstream.h2_stream",
    "proxy.downstream.life",
    "proxy.exchange.between",
    "proxy.exchange.ends",
    "proxy.exchange.exchange",
    "proxy.exchange.response",
    "proxy.exchange.straight",
    "proxy.exchange.tries",
    "proxy.http.chunked",
    "proxy.http.encode",
    "proxy.http.events",
    "proxy.http.framing",
    "proxy.http.h1",
    "proxy.http.h2",
    "proxy.http.h2control",
    "proxy.http.h2frames",
    "proxy.http.h2receive",
    "proxy.http.h2stream",
    "proxy.http.head",
    "proxy.http.hpack_write",
    "proxy.http.huffman",
    "proxy.http.limits",
    "proxy.http.request_head",
    "proxy.http.response_head",
    "proxy.inbound",
    "proxy.intake",
    "proxy.net.bulk",
    "proxy.net.connection",
    "proxy.net.h2_connection",
    "proxy.net.h2_pool",
    "proxy.net.host",
    "proxy.net.pool",
    "proxy.net.queue",
    "proxy.net.records",
    "proxy.net.secured",
    "proxy.net.standing",
    "proxy.net.timers",
    "proxy.outbound",
    "proxy.plan",
    "proxy.recent",
    "proxy.redaction",
    "proxy.report",
    "proxy.requests",
    "proxy.series",
    "proxy.sides",
    "proxy.span_tags",
    "proxy.spans",
    "proxy.telemetry",
)
"""In one binary: what they call of each other needs no look-up."""


def sources_of(root: Path) -> list[Path]:
    """The sources of the compiled modules below the folder that holds `proxy`."""
    return [root / f"{name.replace('.', '/')}.py" for name in MODULES]


def binary_of(root: Path) -> Path:
    """Where the binary of these very sources is, or is to be."""
    digest = hashlib.sha256()
    for source in sources_of(root):
        digest.update(source.read_bytes())
    return root / "proxy" / f"hot-{digest.hexdigest()[:16]}{EXTENSION_SUFFIXES[0]}"


class _Loader(ExtensionFileLoader):
    """Loads one module of the binary, whose entries bear whole names: `h1` there is in two folders."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Enter by the module's own entry."""
        entry = spec.name.replace(".", "___")
        module = super().create_module(ModuleSpec(entry, self, origin=self.path))
        sys.modules.pop(entry, None)
        return module


class _Finder:
    """Finds the compiled modules, before the sources would be."""

    def __init__(self, binary: str) -> None:
        self._binary = binary

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """The compiled module of that name."""
        if name not in MODULES:
            return None
        return spec_from_file_location(name, self._binary, loader=_Loader(name, self._binary))


def prefer() -> bool:
    """Have the compiled modules imported from now on, where they can be; whether they are."""
    if os.environ.get("MESHPY_PURE"):
        return False
    try:
        binary = str(binary_of(Path(__file__).parents[1]))
        spec = spec_from_file_location(LIBRARY, binary, loader=ExtensionFileLoader(LIBRARY, binary))
        if spec is None or not os.path.exists(binary):
            return False
        module_from_spec(spec)
    except (ImportError, OSError):
        return False
    sys.meta_path.insert(0, _Finder(binary))
    return True
