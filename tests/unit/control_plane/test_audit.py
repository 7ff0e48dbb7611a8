"""The audit log is a chain: what was changed, taken out or put in shows."""

import pytest
from click.testing import CliRunner

from control_plane.__main__ import main
from control_plane.append_log import AppendLog
from control_plane.audit import Audit, Chain, verify


async def _written(path, count=4):
    log = AppendLog(path)
    audit = Audit(log)
    for number in range(count):
        await audit.write("certificate-issued", serial=str(number))
    log.close()
    return audit.chain


async def test_records_follow_from_one_another_over_restarts(tmp_path):
    path = tmp_path / "audit.jsonl"
    first = await _written(path)
    second = await _written(path)
    assert (first.records, second.records, second.broken_at) == (4, 8, 0)
    assert verify(path) == second


@pytest.mark.parametrize(
    ("change", "broken_at"),
    [
        (lambda lines: [*lines[:1], lines[1].replace(b'"1"', b'"9"'), *lines[2:]], 3),
        (lambda lines: [*lines[:1], *lines[2:]], 2),
        (lambda lines: [*lines[:2], lines[0], *lines[2:]], 3),
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: [*lines[:2], b"garbage", *lines[2:]], 3),
    ],
)
async def test_a_change_shows_where_it_was_made(tmp_path, change, broken_at):
    path = tmp_path / "audit.jsonl"
    await _written(path)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"".join(line + b"\n" for line in change(lines)))
    assert verify(path).broken_at == broken_at
    done = CliRunner().invoke(main, ["audit", str(path)])
    assert (done.exit_code, f"audit.jsonl:{broken_at}:" in done.output) == (1, True)


async def test_lines_of_a_release_without_the_chain_may_begin_the_file(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_text('{"event":"old"}\n{"event":"older"}\n')
    assert (await _written(path, 2)).broken_at == 0
    with path.open("a") as file:
        file.write('{"event":"forged"}\n')
    assert verify(path).broken_at == 5


def test_an_empty_file_is_a_chain_without_a_head(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.touch()
    assert verify(path) == Chain()
