"""Coverage-guided fuzzing by atheris: `python -m tests.fuzz.run [SECONDS] [TARGET …]`.

In an environment of its own, for atheris is no dependency of the project:

    python3 -m venv build/fuzz && build/fuzz/bin/pip install -r requirements/runtime.txt
    build/fuzz/bin/pip install atheris
    PYTHONPATH=. MESHPY_PURE=1 build/fuzz/bin/python -m tests.fuzz.run 60

Each target runs in a process of its own, for so many seconds. An input that breaks a promise is kept as
`build/fuzz-TARGET-…`; it becomes a test before it is repaired.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_LONGEST_BYTES = 4096


def _fuzz_one(name: str, arguments: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["proxy.http", "meshpy.engine.normalise"]):
        targets = importlib.import_module("tests.fuzz.targets")
    atheris.Setup([sys.argv[0], *arguments], targets.TARGETS[name])
    atheris.Fuzz()


def _run(name: str, seconds: int) -> str:
    targets = importlib.import_module("tests.fuzz.targets")
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(targets.SEEDS[name]):
            (Path(folder) / f"{number}").write_bytes(seed if name in ("bridge", "hpack") else b"\0\7" + seed)
        Path("build").mkdir(exist_ok=True)
        options = [f"-max_total_time={seconds}", f"-max_len={_LONGEST_BYTES}"]
        options.append(f"-artifact_prefix=build/fuzz-{name}-")
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.run", "--one", name, *options, folder],
            capture_output=True,
            text=True,
            check=False,
        )
    inputs = re.findall(r"Done (\d+) runs", done.stderr) or re.findall(r"^#(\d+)", done.stderr, re.MULTILINE)
    coverage = re.findall(r"cov: (\d+)", done.stderr)
    found = "no finding" if done.returncode == 0 else f"FINDING\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    counts = f"{(inputs or ['?'])[-1]:>10} inputs {seconds:>5} s  cov {(coverage or ['?'])[-1]:>5}"
    return f"{name:14}{counts}  {found}"


def main() -> None:
    """Fuzz the targets that are named, or all."""
    if sys.argv[1:2] == ["--one"]:
        _fuzz_one(sys.argv[2], sys.argv[3:])
        return
    words = sys.argv[1:]
    seconds = int(words.pop(0)) if words and words[0].isdecimal() else 60
    names = words or list(importlib.import_module("tests.fuzz.targets").TARGETS)
    findings = 0
    for name in names:
        line = _run(name, seconds)
        findings += "FINDING" in line
        print(line, flush=True)
    sys.exit(min(findings, 1))


if __name__ == "__main__":
    main()
