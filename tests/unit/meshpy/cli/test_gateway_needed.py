"""A stack whose services go outside through a gateway is not deployed before there is one."""

from pathlib import Path

import pytest

from meshpy.cli.deploy import _prepare
from meshpy.errors import MeshpyError
from meshpy.inject import inject
from meshpy.model.names import ServiceName

STACK = """version: "3.8"
services:
  web:
    image: nginx
    deploy: {labels: {meshpy.egress: "api.example.com:443"}}
x-mesh: {egress_gateway: mesh-egress/gateway}
"""


class Docker:
    """A manager with these services."""

    def __init__(self, *services: str) -> None:
        self._names = {"network": {"mesh"}, "service": set(services), "secret": {"meshpy-join_shop_web"}}

    def require_manager(self) -> None:
        pass

    def names(self, kind: str) -> set[str]:
        return self._names[kind]


def test_it_says_what_to_run(tmp_path: Path, monkeypatch) -> None:
    injected = inject(STACK, stack="shop")
    assert injected.report.gateways == (ServiceName("mesh-egress", "gateway"),)
    monkeypatch.setattr("meshpy.cli.deploy.Operator", lambda _context: None)
    monkeypatch.setattr("meshpy.cli.deploy.Context.load", lambda: None)
    with pytest.raises(MeshpyError, match="run `meshpy install --egress-gateway 2`"):
        _prepare(Docker("shop_web"), injected, "shop", tmp_path)
    _prepare(Docker("mesh-egress_gateway-sidecar"), injected, "shop", tmp_path)
