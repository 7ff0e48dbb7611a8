"""`make house`: how the house stands: sizes of files and functions, the ladder of imports, coverage.

HOUSE sizes: a file of 70 to 180 lines, 400 at the most; a function of 10 lines, 60 at the most. What is above
is named, for whoever tidies up next.
"""

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("certs", "meshpy", "proxy", "control_plane")
MOST_LINES, MOST_IN_FUNCTION = 400, 60


def sources(package: str) -> list[Path]:
    """The package's Python files."""
    return sorted(path for path in (ROOT / package).rglob("*.py") if "node_modules" not in path.parts)


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length of each function, docstring included, decorators not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield (
                f"{path.relative_to(ROOT)}:{node.lineno} {node.name}",
                (node.end_lineno or node.lineno) - node.lineno + 1,
            )


def spread(sizes: Sequence[int]) -> str:
    """Median, 90th percentile, largest."""
    ordered = sorted(sizes)
    return f"{statistics.median(ordered):4.0f} {ordered[int(len(ordered) * 0.9)]:5} {ordered[-1]:5}"


def print_sizes() -> None:
    """A row per package, then what has outgrown its room."""
    print("SIZES (median, p90, largest)")
    print(f"{'package':<16}{'files':>6}{'lines':>8}   {'file lines':<18}{'function lines':<18}")
    large: list[tuple[int, str]] = []
    for package in PACKAGES:
        files = sources(package)
        sizes = [lines_of(path) for path in files]
        lengths = [found for path in files for found in functions(path)]
        large += [
            (size, str(path.relative_to(ROOT)))
            for path, size in zip(files, sizes, strict=True)
            if size > MOST_LINES
        ]
        large += [(size, name) for name, size in lengths if size > MOST_IN_FUNCTION]
        spreads = f"{spread(sizes):<18}{spread([size for _, size in lengths]):<18}"
        print(f"{package:<16}{len(files):>6}{sum(sizes):>8}   {spreads}")
    print(
        f"above {MOST_LINES} lines a file or {MOST_IN_FUNCTION} a function:" + (" none" if not large else "")
    )
    for size, name in sorted(large, reverse=True):
        print(f"  {size:>5} {name}")


def print_ladder() -> None:
    """The contracts of import-linter, kept or broken."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    env = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    print("\nLADDER")
    for line in done.stdout.splitlines():
        if line.endswith(("KEPT", "BROKEN")) or line.startswith("Analyzed"):
            print(f"  {line}")


def print_coverage(folders: Sequence[str]) -> None:
    """Lines run by the tests of `folders` in this process; processes that tests start are not counted."""
    data = ROOT / "build/coverage"
    data.parent.mkdir(exist_ok=True)
    base = [sys.executable, "-m", "coverage"]
    run = [
        *base,
        "run",
        f"--data-file={data}",
        f"--source={','.join(PACKAGES)}",
        "-m",
        "pytest",
        "-q",
        *folders,
    ]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)
    out = subprocess.run(
        [*base, "json", f"--data-file={data}", "-o", "-", "-q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    counts: dict[str, list[int]] = {package: [0, 0] for package in PACKAGES}
    for name, found in json.loads(out)["files"].items():
        counts[name.split("/")[0]][0] += found["summary"]["covered_lines"]
        counts[name.split("/")[0]][1] += found["summary"]["num_statements"]
    print(f"\nCOVERAGE by {', '.join(folders)} ({done.stdout.strip().splitlines()[-1]})")
    for package, (covered, statements) in counts.items():
        print(f"  {package:<16}{covered:>6} of {statements:>6} statements  {covered / statements:.0%}")


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-coverage", action="store_true", help="only what needs no test run")
    parser.add_argument("folders", nargs="*", default=["tests/unit", "tests/property", "tests/conformance"])
    arguments = parser.parse_args()
    print_sizes()
    print_ladder()
    if not arguments.no_coverage:
        print_coverage(arguments.folders)


if __name__ == "__main__":
    main()
