"""The append-only log: what returned is on disk, what was torn is cut, what is damaged is named."""

import pytest

from control_plane.append_log import AppendLog
from control_plane.errors import StartRefused


def test_records_come_back_in_order(tmp_path):
    log = AppendLog(tmp_path / "log")
    log.append({"a": 1, "text": "line\nbreak"})
    log.append({"a": 2})
    assert AppendLog(tmp_path / "log").records() == [{"a": 1, "text": "line\nbreak"}, {"a": 2}]
    assert (tmp_path / "log").read_text().count("\n") == 2


def test_a_torn_last_line_was_never_acknowledged_and_goes(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b'{"a":1}\n{"a":')
    log = AppendLog(path)
    log.append({"a": 3})
    assert log.records() == [{"a": 1}, {"a": 3}]


@pytest.mark.parametrize("line", ["{", "[1]", "[" * 100_000, "\x00"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "log"
    path.write_text(f'{{"a":1}}\n{line}\n')
    with pytest.raises(StartRefused, match="log:2"):
        AppendLog(path).records()


def test_a_log_is_private_to_its_owner(tmp_path):
    AppendLog(tmp_path / "log")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
