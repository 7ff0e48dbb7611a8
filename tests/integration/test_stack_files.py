"""What commands read besides one stack file: further files, env files, images, and the user's answers."""

import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshpy.cli.image_ports import ImageRef, ImageUnknownError, exposed_ports
from meshpy.cli.main import cli
from meshpy.errors import DocumentError
from meshpy.inject import inject
from meshpy.inject.merge import merge_files

needs_docker = pytest.mark.skipif(shutil.which("docker") is None, reason="no docker CLI")
ONE = """\
version: "3.8"
services:
  a:
    image: x
    command: [one, two]
    entrypoint: e1
    healthcheck: {test: curl a, interval: 1s}
    environment: [A=1, B=2, "C=$$x"]
    ports: ["80:80", "81:81", "90", "91", "100-101:100-101"]
    networks: [n1]
    dns: 1.1.1.1
    volumes: ["/a:/x", "v:/y", "/z"]
    secrets: [s1]
    labels: {l: "1"}
    cap_add: [A]
    read_only: true
    deploy:
      replicas: 2
      placement: {constraints: [a == b]}
      labels: {x: "1"}
      update_config: {parallelism: 2}
    logging: {driver: json-file, options: {a: "1"}}
    ulimits: {nofile: 5}
    extra_hosts: ["a:1.1.1.1"]
    tmpfs: /t1
  only: {image: y, ports: ["1:1"]}
networks: {n1: {driver_opts: {a: b}}, n2: {}}
volumes: {v: {}}
secrets: {s1: {external: true}}
"""
TWO = """\
version: "3.8"
services:
  a:
    command: three
    entrypoint: [e2]
    healthcheck: {test: [CMD, b], retries: 0}
    environment: {B: "3", D: "4"}
    ports: ["80:8080", "82:82", "92", {target: 7, published: 81}]
    networks: {n2: {aliases: [q]}}
    dns: [2.2.2.2]
    volumes: ["/b:/x"]
    secrets: [{source: s1, target: t}]
    labels: ["m=2"]
    cap_add: [B]
    read_only: false
    deploy: {replicas: 0, placement: {constraints: [c == d]}, labels: [y=2], update_config: {parallelism: 0}}
    logging: {driver: json-file, options: {b: "2"}}
    ulimits: {nofile: {soft: 1, hard: 2}}
    extra_hosts: ["b:2.2.2.2"]
    tmpfs: [/t2]
  b: {image: z, logging: {driver: none}}
networks: {n1: {driver: overlay}, n2: {}}
"""


def config(*files: Path) -> str:
    words = [word for file in files for word in ("-c", str(file))]
    done = subprocess.run(
        ["docker", "stack", "config", *words], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_docker
def test_files_are_merged_as_docker_merges_them(tmp_path: Path):
    """What docker makes of the two files is what it makes of the one that is made of them."""
    files = {"one.yml": ONE, "two.yml": TWO}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "merged.yml").write_text(merge_files(list(files.items())).text)
    together = config(tmp_path / "one.yml", tmp_path / "two.yml")
    assert sorted(config(tmp_path / "merged.yml").splitlines()) == sorted(together.splitlines())


def test_an_error_in_merged_files_stands_where_the_user_wrote_it():
    merged = merge_files(
        [("a.yml", "services:\n  db: {image: redis}\n"), ("b.yml", "services:\n\n  x: {image: q}\n")]
    )
    with pytest.raises(DocumentError) as caught:
        inject(merged.text, stack="s", file=merged.name)
    place = merged.placed(caught.value).problems[0].place
    assert (place.file, place.line, place.key) == ("b.yml", 3, "services.x")


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ('version: "3.7"\nservices: {}\n', "docker merges equal ones"),
        ("services: {a: {env_file: x.env}}\n", "would come before the `environment`"),
    ],
)
def test_what_cannot_be_merged_is_refused_with_its_place(second: str, says: str):
    first = "services: {a: {image: x, environment: {A: b}}}\n"
    with pytest.raises(DocumentError, match=says):
        merge_files([("one.yml", first), ("two.yml", second)])


def run(tmp_path: Path, *words: str, stdin: str | None = None):
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    return CliRunner().invoke(cli, ["inject", "--stack", "s", *words], input=stdin, env=nowhere)


def test_two_files_are_injected_as_one_and_the_diff_shows_what_changes(tmp_path: Path):
    one, two = tmp_path / "one.yml", tmp_path / "two.yml"
    one.write_text("services:\n  db: {image: redis}\n")
    two.write_text("services:\n  db: {deploy: {replicas: 3}}\n  web: {image: nginx}\n")
    done = run(tmp_path, "--diff", str(one), str(two))
    assert done.exit_code == 0, done.output
    assert "+  web-sidecar:" in done.stdout
    assert "x-meshpy" not in done.stdout
    whole = run(tmp_path, str(one), str(two)).stdout
    assert "replicas: 3" in whole


def test_an_env_file_shows_a_port_and_nothing_of_it_but_that_is_kept(tmp_path: Path):
    (tmp_path / "app.env").write_text("PASSWORD=hunter2\nAPI=http://api:9911/v1\nOTHER=http://elsewhere:1/\n")
    stack = tmp_path / "stack.yml"
    stack.write_text("services:\n  api: {image: acme/api}\n  web: {image: nginx, env_file: app.env}\n")
    done = run(tmp_path, "--no-images", str(stack))
    assert done.exit_code == 0, done.output
    assert "env API of web (app.env:2)" in done.stderr
    (tmp_path / "app.env").unlink()
    mesh = tmp_path / "mesh.yml"
    mesh.write_text(done.stdout)
    assert CliRunner().invoke(cli, ["uninject", str(mesh)]).stdout == stack.read_text()
    assert run(tmp_path, str(mesh)).stdout == done.stdout
    report = json.loads(run(tmp_path, "-o", "json", str(mesh)).stdout)
    assert "hunter2" not in json.dumps(report)
    assert "elsewhere" not in json.dumps(report["report"])


def test_what_nothing_shows_is_asked_for_and_said_how_to_write(tmp_path: Path):
    stack = tmp_path / "stack.yml"
    stack.write_text("services:\n  api: {image: 127.0.0.1:1/acme/api}\n  db: {image: redis}\n")
    refused = run(tmp_path, str(stack))
    assert refused.exit_code != 0
    done = run(tmp_path, "--interactive", "--no-images", str(stack), stdin="http\n8080/http\n")
    assert done.exit_code == 0, done.output
    assert 'api: meshpy.ports: "8080/http"' in done.stderr
    assert "meshpy.ports: 8080/http" in done.stdout or 'meshpy.ports: "8080/http"' in done.stdout


INDEX = {
    "manifests": [
        {"digest": "sha256:w", "platform": {"os": "windows"}},
        {"digest": "sha256:l", "platform": {"os": "linux"}},
    ]
}
REGISTRY = {
    "/v2/acme/api/manifests/1": INDEX,
    "/v2/acme/api/manifests/sha256:l": {"config": {"digest": "sha256:c"}},
    "/v2/acme/api/blobs/sha256:c": {
        "config": {"ExposedPorts": {"9000/tcp": {}, "53/udp": {}, "8080/tcp": {}}}
    },
}


class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = REGISTRY.get(self.path)
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(found or {}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_image_says_its_ports_through_its_registry(registry: str, tmp_path: Path):
    stack = tmp_path / "stack.yml"
    stack.write_text(f"services:\n  api: {{image: '{registry}/acme/api:1'}}\n  db: {{image: redis}}\n")
    done = run(tmp_path, str(stack))
    assert done.exit_code == 0, done.output
    assert f"EXPOSE of image {registry}/acme/api:1 (its registry)" in done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()[1:3]] == ["api", "9000"]


def test_an_image_that_nobody_knows_is_said_by_whom(registry: str, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(os.environ, "DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(ImageUnknownError, match=r"the engine: .*; the registry: 404"):
        exposed_ports(f"{registry}/acme/none")


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("redis", ("registry-1.docker.io", "library/redis", "latest")),
        ("acme/api:1", ("registry-1.docker.io", "acme/api", "1")),
        ("ghcr.io/a/b/c@sha256:x", ("ghcr.io", "a/b/c", "sha256:x")),
        ("localhost:5000/x:2", ("localhost:5000", "x", "2")),
    ],
)
def test_an_image_is_named_as_docker_names_it(image: str, parts: tuple[str, ...]):
    ref = ImageRef.parse(image)
    assert (ref.registry, ref.repository, ref.reference) == parts
