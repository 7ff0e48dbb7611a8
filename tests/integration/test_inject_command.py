"""`meshpy inject` and `meshpy uninject` as a shell sees them."""

import json
import subprocess
import sys
from pathlib import Path

STACK = b'version: "3.8"\r\nservices:\r\n  a: {image: redis}\r\n  b: {image: acme/x}'


def meshpy(*args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    code = "from meshpy.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *args], input=stdin, capture_output=True, timeout=60, check=False
    )


def test_a_file_goes_through_and_comes_back_byte_for_byte(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = meshpy(
        "inject", "--stack", "s", "--assume", "b=81/http", "--report", str(report), "-", stdin=STACK
    )
    assert done.returncode == 0
    assert b"EVIDENCE" in done.stderr
    assert meshpy("uninject", "-", stdin=done.stdout).stdout == STACK
    assert [row["port"] for row in json.loads(report.read_bytes())["services"]] == [6379, 81]


def test_bad_input_writes_nothing_and_exits_2() -> None:
    done = meshpy("inject", "--stack", "s", "-", stdin=STACK)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"-:4:3: services.b" in done.stderr
    as_json = meshpy("inject", "--stack", "s", "-o", "json", "-", stdin=STACK)
    assert as_json.returncode == 2
    assert json.loads(as_json.stdout)["problems"][0]["line"] == 4


def test_wrong_usage_exits_2(tmp_path: Path) -> None:
    assert meshpy("inject", "-", stdin=STACK).returncode == 2
    assert meshpy("inject", "--stack", "s", "--assume", "x", "-", stdin=STACK).returncode == 2
    assert meshpy("inject", "--stack", "s", "-", stdin=b"\xff").returncode == 2
    assert meshpy("inject", "--stack", "s", str(tmp_path / "none.yml")).returncode == 2


def test_what_cannot_be_read_at_all_is_named_by_its_file(tmp_path: Path) -> None:
    """A key twice, YAML that is none: the file's own name, line and column."""
    file = tmp_path / "twice.yml"
    for text in ("services:\n  a:\n    image: x\n    image: y\n", "services:\n  a: [\n"):
        file.write_text(text)
        done = meshpy("inject", "--stack", "s", str(file))
        assert (done.returncode, done.stdout) == (2, b"")
        assert f"{file}:".encode() in done.stderr
