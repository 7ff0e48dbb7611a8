"""Documents that are followed word by word: their `sh` blocks are run, their `text` blocks are looked for.

A `text` block belongs to the `sh` block before it. Each of its lines must be found in what was printed, in
order; `…` stands for anything, also nothing, and spaces at the ends do not count.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

WALKED = (
    "docs/logs.md",
    "docs/anomalies.md",
    "docs/operations.md",
    "docs/control-plane.md",
)
"""Pages whose blocks marked `swarm` are commands of operators, followed on the shop."""
BLOCK = re.compile(
    r"(?:^<!-- (?P<name>[^>]*?) -->\n)?^```(?P<kind>sh|text)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Step:
    """Commands, and the lines to be seen; `name` is the comment above the block."""

    name: str
    commands: str
    seen: tuple[str, ...] = ()


def steps_of(text: str) -> list[Step]:
    """The steps of a Markdown document."""
    steps: list[Step] = []
    for block in BLOCK.finditer(text):
        if block["kind"] == "sh":
            steps.append(Step(block["name"] or "", block["text"]))
        elif steps:
            last = steps[-1]
            steps[-1] = Step(last.name, last.commands, (*last.seen, *block["text"].splitlines()))
    return steps


def missing(seen: tuple[str, ...], printed: str) -> str:
    """The first line to be seen that was not printed after those before it; empty when all were."""
    lines = iter(line.strip() for line in printed.splitlines())
    for wanted in filter(None, (line.strip() for line in seen)):
        shape = re.compile(".*".join(re.escape(part) for part in wanted.split("…")), re.DOTALL)
        if not any(shape.fullmatch(line) for line in lines):
            return wanted
    return ""


def follow(step: Step, folder: Path, env: Mapping[str, str], timeout_s: float = 240) -> str:
    """Run the commands in one shell that stops at the first failure; return what was printed.

    A command may say `# exit 1` at its end.
    """
    script = re.sub(
        r"^(.*?)\s+# exit (\d)$",
        r"code=0; \1 || code=$?; test $code -eq \2",
        step.commands,
        flags=re.MULTILINE,
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{step.commands}\nexit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr
