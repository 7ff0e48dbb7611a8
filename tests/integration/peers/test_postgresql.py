"""A real PostgreSQL, asked by psql, over opaque TCP through two sidecars with mTLS."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from meshpy.model.endpoint import Protocol
from tests.helpers.peers import App, Call, api_snapshot, start_sidecar, web_snapshot
from tests.helpers.ports import free_port
from tests.helpers.sidecars import LOOPBACK

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nowhere"))

pytestmark = pytest.mark.skipif(
    not (BIN / "initdb").exists() or shutil.which("psql") is None, reason="postgresql is not installed"
)


def _as_somebody() -> dict[str, object]:
    """Root may not run it: who it runs as, where we are root."""
    return {"user": pwd.getpwnam("nobody").pw_uid} if os.geteuid() == 0 else {}


@pytest.fixture(scope="module")
def database(processes, pki):
    """The port where `web` finds PostgreSQL."""
    somebody = _as_somebody()
    folder = Path(tempfile.mkdtemp(prefix="meshpy-pg-"))
    if somebody:
        os.chown(folder, somebody["user"], -1)
    app, port, entry = free_port(), 5432, free_port()
    try:
        made = [BIN / "initdb", "-D", folder / "data", "-U", "app", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, **somebody)
        options = ["-D", folder / "data", "-p", str(app), "-h", LOOPBACK, "-k", folder, "-F"]
        processes.start([BIN / "postgres", *options], app, cwd=folder, **somebody)
        api = start_sidecar(processes, pki, api_snapshot(App(port, app, Protocol.TCP)))
        start_sidecar(processes, pki, web_snapshot(Call(entry, port, api.mesh, Protocol.TCP)), entry)
        yield entry
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def psql(port: int, *statements: str, text: str | None = None, sslmode: str = "prefer") -> str:
    """What psql prints; the client asks for TLS first, and goes on without when the server has none."""
    address = f"host={LOOPBACK} port={port} user=app dbname=postgres sslmode={sslmode} connect_timeout=20"
    words = [word for statement in statements for word in ("-c", statement)]
    done = subprocess.run(
        ["psql", address, "-X", "-At", "-v", "ON_ERROR_STOP=1", *words],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_transaction_of_two_statements(database):
    out = psql(database, "create table t(n int)", "insert into t select generate_series(1, 1000)")
    assert out == "CREATE TABLE\nINSERT 0 1000\n"
    assert psql(database, "select count(*), sum(n) from t") == "1000|500500\n"


def test_a_hundred_thousand_rows_go_in_by_copy_and_come_out_alike(database):
    rows = "".join(f"{number}\t{number * 7919 % 100_003:x}\n" for number in range(100_000))
    psql(database, "create table big(n int, s text)", "copy big from stdin", text=rows)
    assert psql(database, "copy (select * from big order by n) to stdout") == rows


def test_a_query_is_cancelled_over_a_connection_of_its_own(database):
    """psql sends a CancelRequest on SIGINT, with the key that it got over the first connection."""
    address = f"host={LOOPBACK} port={database} user=app dbname=postgres"
    argv = ["psql", address, "-X", "-At", "-c", "select 1; select pg_sleep(30)"]
    asleep = "select 1 from pg_stat_activity where state = 'active' and query like '%pg_sleep%'"
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        for _ in range(100):
            if psql(database, f"{asleep} and pid <> pg_backend_pid()").strip():
                break
        client.send_signal(2)
        _, error = client.communicate(timeout=20)
    assert "Cancel request sent" in error
    assert client.returncode != 0
    assert not psql(database, f"{asleep} and pid <> pg_backend_pid()").strip()


def test_a_client_that_insists_on_tls_is_told_that_there_is_none(database):
    with pytest.raises(AssertionError, match="server does not support SSL"):
        psql(database, "select 1", sslmode="require")
