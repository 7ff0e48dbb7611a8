"""What the docs show works as it stands: the snapshot pair runs, the test table passes."""

import contextlib
import http.client
import http.server
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from meshpy.cli.main import run
from tests.helpers.pki import mesh_pki
from tests.helpers.ports import free_port

ROOT = Path(__file__).parents[2]


class App(http.server.BaseHTTPRequestHandler):
    """The app behind the callee's sidecar."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": "api"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def ask_when_it_listens(port, path):
    for _ in range(100):
        with contextlib.suppress(ConnectionRefusedError):
            return ask(port, path)
        time.sleep(0.1)
    raise AssertionError(f"nobody listens on {port}")


def test_the_snapshot_pair_of_the_docs_runs_as_written(tmp_path):
    """web → api over mTLS: allowed, and denied by the rule by name. Only the ports are replaced."""
    text = (ROOT / "docs/static-snapshot.md").read_text()
    found = dict(re.findall(r"<!-- snapshot: (\w+) -->\n```json\n(.*?)```", text, re.DOTALL))
    app = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
    thread = threading.Thread(target=app.serve_forever)
    thread.start()
    mesh, door = free_port(), free_port()
    pki = mesh_pki("cluster.local")
    processes = []
    try:
        for name in ("api", "web"):
            snapshot = json.loads(found[name])
            for listener in snapshot.get("outbound", []):
                listener["port"] = door
            for cluster in snapshot["clusters"].values():
                endpoint = cluster["endpoints"][0]
                endpoint["port"] = mesh if "workload" in endpoint else app.server_address[1]
            (tmp_path / f"{name}.json").write_text(json.dumps(snapshot))
            (tmp_path / name).mkdir()
            pki.save_identity(tmp_path / name, "shop", name)
            argv = [Path(sys.executable).with_name("meshpy-proxy"), "--snapshot", tmp_path / f"{name}.json"]
            argv += [
                "--identity",
                tmp_path / name,
                "--admin",
                f"127.0.0.1:{free_port()}",
                "--access-log",
                "off",
            ]
            argv += ["--mesh-bind", f"127.0.0.1:{mesh if name == 'api' else free_port()}"]
            processes.append(subprocess.Popen(list(map(str, argv))))
        status, body = ask_when_it_listens(door, "/hello")
        for _ in range(50):  # the callee's sidecar may listen a moment later than the caller's
            if status == 200:
                break
            time.sleep(0.1)
            status, body = ask(door, "/hello")
        assert (status, body) == (200, "ok")
        status, body = ask(door, "/x/..//admin/users")
        assert status == 403
        assert "AuthorizationPolicy shop/no-admin" in body
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(15) for process in processes]
        app.shutdown()
        thread.join()
        app.server_close()
    assert codes == [0, 0]


EXAMPLE = re.compile(r"<!-- example: (\S+) (policies|tests) -->\n```yaml\n(.*?)```", re.DOTALL)


def examples():
    """Name → {policies, tests} of every example in the docs that has both."""
    found = {}
    for page in sorted((ROOT / "docs").glob("*.md")):
        for name, part, text in EXAMPLE.findall(page.read_text()):
            found.setdefault(f"{page.stem}-{name}", {})[part] = text
    return found


@pytest.mark.parametrize("name", examples())
def test_an_example_of_the_docs_does_what_its_table_says(name, tmp_path, monkeypatch):
    """On the shop, with these policies alone."""
    monkeypatch.chdir(ROOT)
    parts = examples()[name]
    for part in ("policies", "tests"):
        (tmp_path / f"{part}.yml").write_text(parts[part])
    words = ["--stack", "stacks/shop.yml", "--policies", str(tmp_path / "policies.yml")]
    with pytest.raises(SystemExit) as ended:
        run(["policy", "test", *words, str(tmp_path / "tests.yml")])
    assert ended.value.code == 0


COMMANDS = [
    (page.name, line.group(1).strip(), int(line.group(2) or 0))
    for page in sorted((ROOT / "docs").glob("*.md"))
    for line in re.finditer(r"^(meshpy policy [^#\n|]*)(?:# exit (\d))?$", page.read_text(), re.MULTILINE)
    if "--live" not in line.group(1)
]


@pytest.mark.parametrize(("page", "line", "code"), COMMANDS)
def test_the_commands_of_the_docs_run_as_written(page, line, code, monkeypatch, tmp_path):
    """Every `meshpy policy …` line, from the root of the project, with the exit code that is written."""
    monkeypatch.chdir(ROOT)
    words = [word.replace("report.xml", str(tmp_path / "report.xml")) for word in shlex.split(line)]
    try:
        ended = run(words[1:])
    except SystemExit as error:
        ended = error.code
    assert ended == code, page


def test_the_table_of_the_docs_passes(tmp_path, monkeypatch):
    """The example of policy-testing.md holds on the shop."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs/policy-testing.md").read_text()
    (tmp_path / "tests.yml").write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    words = ["--stack", "stacks/shop.yml", "--policies", "stacks/shop-policies"]
    with pytest.raises(SystemExit) as ended:
        run(["policy", "test", *words, str(tmp_path / "tests.yml")])
    assert ended.value.code == 0
