"""pkilint finds nothing in what is issued but what it cannot know: that `spiffe` is a scheme of URIs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.certificates import certificates_from_pem
from tests.helpers.pki import mesh_pki

FOLDER = Path(__file__).parents[2] / "build/pkilint/bin"
LINT = shutil.which("lint_pkix_cert", path=FOLDER) or shutil.which("lint_pkix_cert")
pytestmark = pytest.mark.skipif(
    LINT is None, reason="no pkilint: python3 -m venv build/pkilint && build/pkilint/bin/pip install pkilint"
)
KNOWN = {"pkix.invalid_uri_syntax"}
"""RFC 3986 asks for an authority with a host that has a dot or is an address; SPIFFE-ID §2 does not."""


def _findings(program: str, *files: Path) -> set[str]:
    command = [program, "lint", "--severity", "NOTICE", "--format", "JSON", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    return {found["code"] for result in told["results"] for found in result["finding_descriptions"]}


def _saved(folder: Path, name: str, certificate: x509.Certificate) -> Path:
    file = folder / f"{name}.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    return file


def test_root_intermediate_and_leaf_have_nothing_but_the_known_finding(tmp_path: Path) -> None:
    pki = mesh_pki("cluster.local")
    leaf = certificates_from_pem(pki.identity("shop", "api").chain_pem)[0]
    files = [
        _saved(tmp_path, name, certificate)
        for name, certificate in (
            ("root", pki.ca.root),
            ("intermediate", pki.ca.intermediate),
            ("leaf", leaf),
        )
    ]
    assert LINT is not None
    for file in files:
        assert _findings(LINT, file) == KNOWN, file.name
    chain = LINT.replace("lint_pkix_cert", "lint_pkix_signer_signee_cert_chain")
    assert _findings(chain, files[0], files[1]) == set()
    assert _findings(chain, files[1], files[2]) == set()
