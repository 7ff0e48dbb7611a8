"""The compiled twins are taken where they are of these very sources, and never needed."""

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import proxy
from proxy.compiled import MODULES, binary_of, sources_of

ROOT = Path(__file__).parents[3]
PRINTED = "import proxy, proxy.exchange.straight as s; print(proxy.is_compiled, type(s.launch).__name__)"


def run(**environment: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "MESHPY_PURE"}
    env |= {"PYTHONPATH": str(ROOT), **environment}
    ended = subprocess.run(
        [sys.executable, "-c", PRINTED], env=env, capture_output=True, text=True, check=True
    )
    return ended.stdout


def copies(folder: Path) -> Path:
    """The sources alone, where they can be changed."""
    for source in sources_of(ROOT):
        copy = folder / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    return folder


def test_every_module_that_is_named_is_there_once():
    assert all(source.is_file() for source in sources_of(ROOT))
    assert len(set(MODULES)) == len(MODULES)


def test_a_binary_belongs_to_its_sources_and_to_this_python(tmp_path):
    before = binary_of(copies(tmp_path))
    assert before.name == binary_of(ROOT).name
    assert before.name.endswith(EXTENSION_SUFFIXES[0])
    with (tmp_path / "proxy/exchange/straight.py").open("a") as source:
        source.write("# edited\n")
    assert binary_of(tmp_path) != before


def test_the_sources_run_when_told_to():
    assert run(MESHPY_PURE="1").split() == ["False", "function"]


@pytest.mark.skipif(not binary_of(ROOT).exists(), reason="not built here: make compiled")
def test_the_compiled_modules_run_where_they_are_fresh():
    assert run().split() == ["True", "builtin_function_or_method"]


def test_what_runs_here_is_told():
    assert proxy.is_compiled == (binary_of(ROOT).exists() and not os.environ.get("MESHPY_PURE"))
