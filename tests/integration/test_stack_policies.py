"""The policies of a stack file reach a real control plane, and only they are replaced by the next deploy."""

import asyncio

import pytest

from meshpy.cli.stack_policies import apply_stack_policies
from meshpy.client import Context, Operator
from meshpy.errors import DocumentError
from meshpy.inject import policies_of_stack
from tests.helpers.control_plane import ADMIN, DENY_ALL, plane

STACK = """\
services:
  web:
    image: x
    ports: ["80:80"]
    x-mesh: {allow: [external]}
  api:
    image: x
    labels: {meshpy.ports: 8080/http}
    x-mesh:
      allow: [web]
"""


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        yield running


async def _apply(mesh, text):
    operator = Operator(Context(mesh.operator, ADMIN))
    documents = policies_of_stack(text, "shop", "stack.yml")
    return await asyncio.to_thread(apply_stack_policies, operator, "shop", documents)


async def _held(mesh):
    answer = (await mesh.call("GET", "/v1/policies"))[1]
    return [(item["name"], item["line"]) for item in answer["documents"]]


async def test_a_deploy_replaces_what_the_last_one_stated_and_nothing_else(mesh):
    assert (await mesh.put(DENY_ALL))[0] == 200
    (other,) = await _held(mesh)
    first = await _apply(mesh, STACK)
    mine = "stack.yml#x-mesh=shop"
    assert await _held(mesh) == [other, (mine, 5), (mine, 10)]
    assert await _apply(mesh, STACK) is None
    second = await _apply(mesh, STACK.replace("    x-mesh: {allow: [external]}\n", ""))
    assert second == first + 1
    assert await _held(mesh) == [other, (mine, 9)]
    await _apply(mesh, "services: {web: {image: x, ports: ['80:80']}}\n")
    assert await _held(mesh) == [other]


async def test_what_the_control_plane_refuses_names_the_line_of_the_stack_file(mesh):
    text = STACK.replace("allow: [web]", "routes: [{to: nowhere.shop}]")
    with pytest.raises(DocumentError, match=r"stack\.yml#x-mesh=shop:10:"):
        await _apply(mesh, text)
    assert await _held(mesh) == []
