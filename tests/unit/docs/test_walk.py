"""How documents are followed: which lines count as seen, and that a failure is one."""

import os
from pathlib import Path

import pytest

from tests.helpers.walk import Step, follow, missing, steps_of

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(path.parent.name for path in (ROOT / "stacks/examples").glob("*/README.md"))


def test_lines_are_seen_in_order_and_whole():
    printed = "a 1\nb 2 c\nd\n"
    assert missing(("a …", "b … c", "d"), printed) == ""
    assert missing(("d", "a …"), printed) == "a …"
    assert missing(("b",), printed) == "b"
    assert missing(("…2…",), printed) == ""


def test_a_failing_command_stops_the_walk(tmp_path):
    """Also in the middle, and when it was said to fail and does not."""
    env = {"PATH": os.environ["PATH"]}
    assert follow(Step("", "false   # exit 1\necho on\n"), tmp_path, env) == "on\n"
    for commands in ("false\necho on\n", "true   # exit 1\n", "false | cat\n"):
        with pytest.raises(AssertionError):
            follow(Step("", commands), tmp_path, env)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_says_what_to_see(name):
    """Commands and lines to be seen, in a page that the table of examples names."""
    steps = steps_of((ROOT / f"stacks/examples/{name}/README.md").read_text())
    assert [step for step in steps if step.seen]
    assert f"({name}/README.md)" in (ROOT / "stacks/examples/README.md").read_text()
