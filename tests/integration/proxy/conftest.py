"""The sidecar runs on uvloop; so do its tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.helpers.pki import MeshPki, mesh_pki


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="package")
def pki() -> MeshPki:
    return mesh_pki()
