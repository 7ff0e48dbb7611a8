"""The `meshpy` command as a process of its own, with an editor's token."""

import asyncio
import os
import sys

from tests.helpers.control_plane import EDITOR

TIMEOUT_S = 60


async def meshpy(
    mesh, *words: str, stdin: str = "", url: str = "", token: str = EDITOR, context: str = "/nonexistent"
) -> tuple[int, str, str]:
    """Run it against a control plane; exit code, standard output, standard error."""
    env = os.environ | {"MESHPY_URL": url or mesh.operator, "MESHPY_TOKEN": token}
    env["MESHPY_CONTEXT"] = context
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from meshpy.cli.main import main; main()", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), TIMEOUT_S)
    return process.returncode or 0, out.decode(), err.decode()
