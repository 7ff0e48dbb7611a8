"""The house keeps its own rules: each import contract bites, and the lock fits the project."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("certs", "meshpy", "proxy", "control_plane")


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("proxy/net/bad.py", "import control_plane", "The ladder"),
        ("control_plane/bad.py", "import proxy", "The ladder"),
        ("meshpy/bad.py", "import proxy", "The ladder"),
        ("certs/bad.py", "import meshpy", "The ladder"),
        ("meshpy/model/bad.py", "import meshpy.wire", "The floors of meshpy"),
        ("meshpy/engine/bad.py", "import meshpy.policy", "The floors of meshpy"),
        ("meshpy/engine/bad.py", "import asyncio", "Floors 0-3"),
        ("meshpy/compile/bad.py", "import meshpy.analysis", "The floors of meshpy"),
        ("meshpy/analysis/bad.py", "import random", "Floors 0-3"),
        ("proxy/decide/bad.py", "import time", "Floors 0-3"),
        ("proxy/http/bad.py", "import proxy.net", "In the proxy only net/"),
    ],
)
def test_each_contract_bites(tmp_path, file, line, contract):
    """A forbidden import breaks the contract that forbids it."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / file).write_text(f"{line}\n")
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    broken = [found for found in run.stdout.splitlines() if found.endswith("BROKEN")]
    assert any(found.startswith(contract) for found in broken), run.stdout


def test_no_other_distribution_owns_our_names():
    """proxy.py and its like on the package index own these import names: none may sit beside us."""
    import importlib.metadata

    owners = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, ["swarm-meshpy"])) == {"swarm-meshpy"}


def test_the_lock_names_no_index():
    """Locked files carry versions and hashes only."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in lock.read_text()
