"""Programs of others beside our sidecar; a test skips, with the reason, where its program is missing."""

from __future__ import annotations

import pytest

from tests.helpers.peers import Processes
from tests.helpers.pki import MeshPki, mesh_pki


@pytest.fixture(scope="module")
def pki() -> MeshPki:
    return mesh_pki()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    made = Processes(tmp_path_factory.mktemp("peers"))
    yield made
    made.stop()
