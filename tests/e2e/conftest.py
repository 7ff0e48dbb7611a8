"""The engine that tests/e2e/run started."""

import os
from pathlib import Path

import pytest

from tests.helpers.swarm import Engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The running Swarm, or a skip that says how to get one."""
    host = os.environ.get("MESHPY_E2E_DOCKER_HOST")
    if host is None:
        pytest.skip("no engine: run `make e2e`")
    return Engine(host, Path(os.environ["MESHPY_E2E_SEEN"]))
