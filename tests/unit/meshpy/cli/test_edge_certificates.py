"""Certificates that are files beside the stack file are looked at before it is deployed."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshpy.cli.edge_certificates import check_certificates
from meshpy.errors import MeshpyError
from meshpy.inject import inject
from tests.helpers.web_pki import WebCa

STACK = """version: "3.8"
services:
  web:
    image: nginx
    ports: ["443:80"]
    x-mesh: {servers: [{port: 443, tls: {mode: MUTUAL, credentialName: shop}}]}
secrets:
  shop.crt: {file: ./shop.crt}
  shop.key: {file: "./${KEY:-shop.key}"}
  shop.ca: {external: true}
"""


def look(folder: Path) -> None:
    report = inject(STACK, stack="s").report
    check_certificates(report.servers, report.secrets, folder, datetime.now(UTC), {})


def test_what_a_sidecar_would_refuse_is_refused_with_file_service_and_port(tmp_path: Path) -> None:
    ca = WebCa(tmp_path)
    ca.issue("shop", "shop.test")
    look(tmp_path)
    ca.issue("shop", "shop.test", days=(-2, -1))
    with pytest.raises(MeshpyError, match=r"web, published port 443: .*/shop\.crt: the certificate expired"):
        look(tmp_path)
    ca.issue("shop", "shop.test")
    other = ca.issue("other", "shop.test")[1]
    other.replace(tmp_path / "shop.key")
    with pytest.raises(MeshpyError, match=r"shop\.key is not the key of the first certificate in"):
        look(tmp_path)
