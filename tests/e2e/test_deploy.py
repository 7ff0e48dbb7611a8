"""A deployment that fails leaves the stack before it; files that changed can be deployed again."""

import pytest

from tests.helpers.mesh import INJECT, Mesh

pytestmark = pytest.mark.docker

STACK = "shelf"
FILE = """
version: "3.8"
services:
  page:
    image: IMAGE
    command: [python, -m, http.server, "8080"]
    init: true
    configs: [{source: text, target: /text.txt}]
    deploy: {labels: {meshpy.ports: 8080/http}}
  reader:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    environment: {PAGE: "http://page:8080"}
    deploy: {labels: {meshpy.ports: ""}}
configs:
  text: {file: ./text.txt}
"""


def shown(mesh: Mesh) -> str:
    return mesh.fetch(mesh.engine.task(f"{STACK}_reader"), "http://page:8080/text.txt").text


def test_a_failed_deployment_leaves_the_stack_before_it_running(mesh: Mesh, tmp_path):
    """First a good one, then new content in its config, then an image that nobody has, with other content."""
    file, text = tmp_path / "stack.yml", tmp_path / "text.txt"
    file.write_text(FILE.replace("IMAGE", "meshpy-shop:dev"))
    text.write_text("one")
    try:
        mesh.ok("deploy", *INJECT, "-c", str(file), STACK)
        assert shown(mesh) == "one"
        text.write_text("two")
        mesh.ok("deploy", *INJECT, "-c", str(file), STACK)
        assert shown(mesh) == "two"
        text.write_text("three")
        file.write_text(FILE.replace("IMAGE", "nonesuch:1"))
        done = mesh.run("deploy", *INJECT, "-c", str(file), STACK)
        assert done.code == 3
        assert "No such image: nonesuch:1" in done.err
        assert f"the stack is as it was before: {STACK}_page set back" in done.err
        assert shown(mesh) == "two"
    finally:
        mesh.engine.remove(STACK)
