"""The software bill of materials of an image: CycloneDX 1.5, from what is installed. Standard library only.

Usage, in the build: `python3 sbom.py NAME VERSION SITE-PACKAGES > sbom.cdx.json`. The same packages give the
same bytes: no time, no random serial number.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from typing import Any


def component(distribution: importlib.metadata.Distribution) -> dict[str, Any]:
    """One installed distribution."""
    name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
    version = distribution.version
    found: dict[str, Any] = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "bom-ref": f"pkg:pypi/{name}@{version}",
    }
    licence = distribution.metadata.get("License-Expression") or distribution.metadata.get("License")
    if licence and "\n" not in licence:
        found["licenses"] = [{"license": {"name": licence}}]
    return found


def main(name: str, version: str, folder: str) -> None:
    """Print the bill."""
    components = [component(each) for each in importlib.metadata.distributions(path=[folder])]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version, "bom-ref": name}},
        "components": sorted(components, key=lambda each: each["bom-ref"]),
    }
    sys.stdout.write(json.dumps(bill, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
