"""Faults at load: `python -m tests.bench.faults [--rps N] [--seconds S] [WORD]`.

The tests of `test_faults.py` and `test_overload.py`, which `make test` runs for a second and a half each, at
another rate and for longer: 300 requests per second for ten seconds unless told otherwise. Each prints what
was sent, what came of it and why; it fails when a POST was read twice, when a broken answer looked whole, or
when more failed than the fault excuses.
"""

import argparse
import os
import re
import subprocess
import sys

FILES = ("tests/integration/proxy/test_faults.py", "tests/integration/proxy/test_overload.py")


def main():
    """Run them and print one line for each."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rps", type=int, default=300)
    asked.add_argument("--seconds", type=float, default=10.0)
    asked.add_argument("word", nargs="?", default="", help="of a test's name")
    args = asked.parse_args()
    if not 0 < args.rps <= 1_000 or not 0 < args.seconds <= 120:
        asked.error("at most 1,000 requests per second for at most 120 seconds")
    environment = os.environ | {
        "MESHPY_FAULT_RPS": str(args.rps),
        "MESHPY_FAULT_SECONDS": str(args.seconds),
    }
    words = ["-k", args.word] if args.word else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-n0", *words, *FILES],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"faults at {args.rps} requests per second for {args.seconds:g} s")
    for line in re.findall(r"^.+: \d+ sent: .+$", done.stdout, re.MULTILINE):
        print(f"  {line}")
    print(done.stdout[-4000:] if done.returncode else done.stdout.splitlines()[-1])
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
