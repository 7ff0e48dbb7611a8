"""Commands and YAML of the docs: each is run somewhere, or says why it is only shown; all of them parse.

A block of commands has a mark above: `<!-- swarm … -->`: followed by tests/e2e/test_written_down.py,
`<!-- demo … -->` by tests/fresh.py, `<!-- offline -->` here, `<!-- shown: REASON -->` is not run. Without a
mark it is `meshpy policy …` on files, which tests/integration/test_docs.py runs.
"""

import contextlib
import os
import re
import shlex
import shutil
import sys
import textwrap
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from control_plane.__main__ import main as control_plane
from meshpy.cli.main import run
from meshpy.inject import InjectOptions, inject
from meshpy.policy import load
from tests.helpers.command_line import parse
from tests.helpers.walk import WALKED, Step, follow, steps_of

ROOT = Path(__file__).parents[3]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "stacks/examples").rglob("*.md"))
BLOCKS = [(path.relative_to(ROOT), step) for path in TEXTS for step in steps_of(path.read_text())]
PLACEHOLDER = "…"


def lines_of(commands: str) -> list[str]:
    """Whole command lines, comments left out."""
    joined = commands.replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"\s+#\s.*", "", line).strip() for line in joined) if line]


@pytest.mark.parametrize(("page", "step"), BLOCKS, ids=lambda value: str(getattr(value, "name", value)))
def test_every_block_of_commands_is_run_or_says_why_not(page, step):
    kind = step.name.partition(":")[0]
    if kind == "swarm":
        assert str(page) in {"docs/quick-start.md", *WALKED}
    elif kind == "shown":
        assert len(step.name.removeprefix("shown:").strip()) > 10
    elif kind not in {"offline", "demo"}:
        assert all(line.startswith("meshpy policy ") for line in lines_of(step.commands)), step.commands


@pytest.mark.parametrize("path", [*TEXTS, *EXAMPLES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_named_exists_with_its_options(path):
    """In blocks and within sentences; `[…]` and `…` stand for what may follow."""
    text = path.read_text()
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for line in [*re.findall(r"`((?:meshpy|docker mesh) [^`\n]+)`", prose)]:
        if PLACEHOLDER not in line and "[" not in line:
            with contextlib.suppress(
                click.MissingParameter, click.BadOptionUsage, click.exceptions.NoArgsIsHelpError
            ):
                parse(line)  # a sentence may name a command without what it needs
    for line in (line for step in steps_of(text) for line in lines_of(step.commands)):
        if line.startswith("meshpy-control-plane "):
            control_plane.main([line.split()[1], "--help"], standalone_mode=False)
        else:
            parse(line)


OFFLINE = [(str(page), step) for page, step in BLOCKS if step.name == "offline"]


@pytest.mark.parametrize(("page", "step"), OFFLINE, ids=lambda value: str(getattr(value, "name", value)))
def test_what_needs_no_mesh_is_run_here(page, step, tmp_path):
    shutil.copy(ROOT / "stacks/shop.yml", tmp_path / "stack.yml")
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    follow(Step(page, step.commands), tmp_path, env)


def test_a_ca_is_made_as_the_docs_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phrase").write_text("a phrase\n")
    [line] = [
        line
        for step in steps_of((ROOT / "docs/ca.md").read_text())
        for line in lines_of(step.commands)
        if line.startswith("meshpy ca init")
    ]
    assert run(shlex.split(line)[1:]) == 0
    assert {path.name for path in (tmp_path / "ca").iterdir()} >= {"root.crt", "root.key", "intermediate.key"}


YAMLS = [
    (path.name, number, text)
    for path in TEXTS
    for number, text in enumerate(
        re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    )
]
STACK = 'version: "3.8"\nservices:\n  web: {image: x, ports: ["80:80"]}\n'
RULE = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: api\n"
ELSEWHERE = {"tests": "test_docs runs tables", "repos": "test_ci_docs", "jobs": "test_ci_docs"}


@pytest.mark.parametrize(("page", "number", "text"), YAMLS, ids=lambda value: str(value)[:24])
def test_every_yaml_is_read_by_whom_it_is_meant_for(page, number, text):
    """Documents by the policy reader, `x-mesh` by the injector, a part of a document within one."""
    documents = [each for each in YAML(typ="safe").load_all(text) if each]
    for document in documents:
        if ELSEWHERE.keys() & document.keys():
            continue
        if "kind" in document:
            load([(page, text)], "default")
        elif "trafficPolicy" in document:
            load([(page, RULE + textwrap.indent(text, "  "))], "default")
        elif "services" in document:
            inject(text, stack="shop", file=page, options=InjectOptions())
        else:
            assert "x-mesh" in document, (page, number)
            inject(f"{STACK}{text}", stack="shop", file=page, options=InjectOptions())
