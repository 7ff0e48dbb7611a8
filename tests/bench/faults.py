"""Faults at load: `python -m tests.bench.faults [--rps N …] [--seconds S] [WORD]`.

The tests of `test_faults.py` and `test_overload.py`, which `make test` runs for a second and a half each, at
other rates and for longer: 100 and 1,000 requests per second for four seconds unless told otherwise, some
four minutes in all. Each line says what was sent, what came of it and why; it fails when a POST was read
twice, when a broken answer looked whole, or when more failed than the fault excuses.
"""

import argparse
import os
import re
import subprocess
import sys

FILES = ("tests/integration/proxy/test_faults.py", "tests/integration/proxy/test_overload.py")


def main() -> None:
    """Run them at every rate and print one table."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rps", type=int, action="append", help="repeatable; 100 and 1000 unless given")
    asked.add_argument("--seconds", type=float, default=4.0)
    asked.add_argument("word", nargs="?", default="test_faults or 64", help="of tests' names")
    args = asked.parse_args()
    rates = args.rps or [100, 1_000]
    if not all(0 < rate <= 1_000 for rate in rates) or not 0 < args.seconds <= 120:
        asked.error("at most 1,000 requests per second for at most 120 seconds")
    codes = [run(rate, args.seconds, args.word) for rate in rates]
    sys.exit(max(codes))


def run(rate: int, seconds: float, word: str) -> int:
    """The tests at one rate; their exit code."""
    environment = os.environ | {"MESHPY_FAULT_RPS": str(rate), "MESHPY_FAULT_SECONDS": str(seconds)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-n0", "-k", word, *FILES],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"{rate} requests per second for {seconds:g} s")
    print(f"  {'fault':36} {'sent':>6} {'200':>6}  others, and why")
    for name, sent, what in re.findall(r"^(.+): (\d+) sent: (.+)$", done.stdout, re.MULTILINE):
        outcomes = dict(part.split(" ", 1)[::-1] for part in what.split(", "))
        others = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items() if outcome != "200")
        print(f"  {name:36} {sent:>6} {outcomes.get('200', '0'):>6}  {others or '-'}")
    print(done.stdout[-4000:] if done.returncode else f"  {done.stdout.splitlines()[-1]}", flush=True)
    return done.returncode


if __name__ == "__main__":
    main()
