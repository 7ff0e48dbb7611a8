"""What an engine runs every few seconds in each container of the mesh."""

import os
import subprocess
import sys

import pytest

from tests.helpers.ports import free_port

CHECK = """
import importlib, sys
sys.argv = ["program", "healthcheck"]
try:
    importlib.import_module(sys.orig_argv[-1]).main()
except SystemExit as end:
    serving = ("asyncio", "meshpy", "certs", "cryptography", "click")
    print(end.code, [name for name in serving if name in sys.modules])
"""


@pytest.mark.parametrize("door", ["proxy.__main__", "control_plane.door"])
def test_a_health_check_imports_nothing_of_what_serves(door: str):
    """Ten sidecars on a node must not cost a core by being well; nobody answers here, so the code is 1."""
    port = f"127.0.0.1:{free_port()}"
    done = subprocess.run(
        [sys.executable, "-c", CHECK, door],
        env=os.environ | {"MESHPY_ADMIN": port, "MESHPY_OPERATOR_LISTEN": port},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["1 []"], done.stdout + done.stderr
    assert port in done.stdout + done.stderr
