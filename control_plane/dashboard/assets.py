"""The built page, read once: a few files under fixed names, so that no request names a path of the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Asset", "load_assets"]

FOLDER = Path(__file__).parent / "built"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    body: bytes
    content_type: str
    etag: str


def load_assets(folder: Path = FOLDER) -> Mapping[str, Asset]:
    """Name → file; `""` is the page itself."""
    found: dict[str, Asset] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix in TYPES:
            body = file.read_bytes()
            found[file.name] = Asset(body, TYPES[file.suffix], hashlib.sha256(body).hexdigest()[:16])
    found[""] = found["index.html"]
    return found
