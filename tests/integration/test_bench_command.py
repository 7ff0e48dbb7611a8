"""`meshpy bench`: counts, times and compares two servers whose difference is known."""

import json
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from subprocess import run as run_process
from threading import Thread
from time import sleep

import pytest

from meshpy.overhead.containers import tasks_of, usage_of


@contextmanager
def server(delay_s: float, status: int = 200):
    """Answers after so long."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.do_GET()

        def do_GET(self):
            sleep(delay_s)
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    thread = Thread(target=found.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{found.server_address[1]}/"
    finally:
        found.shutdown()
        thread.join()
        found.server_close()


def bench(*words):
    command = (sys.executable, "-c", "from meshpy.cli.main import main; main()", "bench", *words)
    return run_process(command, capture_output=True, text=True, timeout=60, check=False)


def test_two_sides_take_turns_and_are_compared(tmp_path):
    """Every request is counted, the slower one is slower by what it waits, the page has both."""
    page = tmp_path / "cost.html"
    with server(0.1) as slow, server(0.0) as quick:
        words = (
            slow,
            "--without",
            quick,
            "--rate",
            "20",
            "--for",
            "2s",
            "--slices",
            "2",
            "-f",
            str(page),
            "-o",
            "json",
        )
        done = bench(*words)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["with the mesh"]["answers"] == told["without"]["answers"] == {"200": 40}
    assert told["with the mesh"]["latency_ms"]["p50"] >= 100
    assert told["without"]["latency_ms"]["p50"] < told["with the mesh"]["latency_ms"]["p50"]
    text = page.read_text()
    assert text.count("<svg") == 2
    assert "http://" not in text
    assert "src=" not in text


@pytest.mark.parametrize(("status", "code", "failed"), [(404, 0, 0), (503, 1, 5)])
def test_answers_of_500_and_above_are_failures(status, code, failed):
    """Exit 1 when there was one, whichever way requests are made."""
    with server(0.0, status) as url:
        done = bench(
            url, "--rate", "5", "--for", "1s", "--slices", "1", "-X", "POST", "-d", "x", "-o", "json"
        )
    assert done.returncode == code
    assert json.loads(done.stdout)["with the mesh"]["failed"] == failed


def test_nobody_there_is_told_by_what_the_requests_met():
    done = bench("http://127.0.0.1:9/", "--rate", "5", "--for", "1s", "--slices", "1")
    assert (done.returncode, done.stdout) == (3, "")
    assert "http://127.0.0.1:9/ does not answer: ClientConnectorError" in done.stderr


def test_cpu_and_memory_are_those_of_the_stacks_tasks():
    """Counted as by `docker stats`: without page cache that can go. Other stacks are not ours."""
    name, stack = "com.docker.swarm.service.name", "com.docker.stack.namespace"
    containers = [
        {"Id": "a", "Labels": {name: "shop_api", stack: "shop"}},
        {"Id": "b", "Labels": {name: "shop_api-sidecar", stack: "shop"}},
        {"Id": "c", "Labels": {name: "other_api", stack: "other"}},
        {"Id": "d", "Labels": {}},
    ]
    tasks = tasks_of(containers, "shop")
    assert tasks == {"a": False, "b": True}
    stats = {"cpu_stats": {"cpu_usage": {"total_usage": 2_000_000_000}}}
    v1 = stats | {"memory_stats": {"usage": 1000, "stats": {"total_inactive_file": 400}}}
    v2 = stats | {"memory_stats": {"usage": 500, "stats": {"inactive_file": 100}}}
    usage = usage_of([(False, v1), (True, v2), (True, {})])
    assert (usage.apps_bytes, usage.sidecars_bytes) == (600, 400)
    assert (usage.apps_cpu_s, usage.sidecars_cpu_s, usage.sidecars) == (2.0, 2.0, 2)
