"""The workflow and the pre-commit hook of docs/ci.md run as they are written, in a repository for them."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ci.md").read_text()
HOOKS = YAML(typ="safe", pure=True).load((ROOT / ".pre-commit-hooks.yaml").read_text())
MESHPY = f"{shlex.quote(sys.executable)} -c 'from meshpy.cli.main import main; main()'"


def block(heading):
    section = PAGE.partition(f"## {heading}")[2]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return YAML(typ="safe", pure=True).load(found[1])


@pytest.fixture
def repository(tmp_path):
    """A repository with what the page names, and its base beside it."""
    here, base = tmp_path / "here", tmp_path / "base"
    (here / "tests").mkdir(parents=True)
    shutil.copy(ROOT / "stacks" / "shop.yml", here / "stack.yml")
    shutil.copytree(ROOT / "stacks" / "shop-policies", here / "policies")
    shutil.copy(ROOT / "docs" / "examples" / "tests.yml", here / "tests" / "policies.yml")
    shutil.copy(ROOT / "docs" / "examples" / "invariants.txt", here / "tests" / "invariants.txt")
    shutil.copytree(here / "policies", base / "policies")
    return here


def sh(command, folder):
    ready = re.sub(r"^meshpy\b", lambda _found: MESHPY, command)
    return subprocess.run(
        ["/bin/sh", "-c", ready], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def meshpy_steps():
    (job,) = block("GitHub")["jobs"].values()
    return [step["run"] for step in job["steps"] if step.get("run", "").startswith("meshpy ")]


def test_the_workflow_passes_on_a_good_repository_and_writes_what_it_uploads(repository):
    check, lint = meshpy_steps()
    done = sh(check, repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sh(lint, repository).returncode == 0
    assert '"version": "2.1.0"' in (repository / "lint.sarif").read_text()


def test_the_workflow_fails_where_a_change_lets_more_in_and_names_the_line(repository):
    shutil.rmtree(repository / "policies")
    shutil.copytree(ROOT / "docs" / "examples" / "candidate", repository / "policies")
    done = sh(meshpy_steps()[0], repository)
    assert done.returncode == 1
    assert re.search(r"^::warning .*title=newly-allowed.*GET /admin", done.stdout, re.MULTILINE), done.stdout


def test_the_hook_is_the_command_and_its_arguments(repository):
    (repo,) = block("pre-commit")["repos"]
    (hook,) = repo["hooks"]
    entry = next(each["entry"] for each in HOOKS if each["id"] == hook["id"])
    words = f"{entry} {shlex.join(hook['args'])}"
    done = sh(words, repository)
    assert done.returncode == 0, done.stdout + done.stderr
    files = next(each["files"] for each in HOOKS if each["id"] == hook["id"])
    assert re.search(files, "policies/access.yaml")
    assert re.search(files, "stack.yml")
    (repository / "policies" / "access.yaml").write_text("kind: Nothing\n")
    done = sh(words, repository)
    assert done.returncode == 2
    assert "policies/access.yaml:1" in done.stdout + done.stderr
