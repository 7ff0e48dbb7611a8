"""schemathesis over our own OpenAPI document: `python -m tests.bench.openapi_fuzz /path/to/schemathesis`.

The tool is not among the project's dependencies: `python -m venv V && V/bin/pip install schemathesis`, then
name `V/bin/schemathesis`. A control plane is started on loopback, every check is on; further words are passed
on.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.helpers.control_plane import ADMIN, plane

CONFIG = Path(__file__).with_name("schemathesis.toml")


async def fuzz(tool, *words):
    """The exit code of the tool: 0 when it found nothing."""
    with tempfile.TemporaryDirectory() as folder:
        async with plane(Path(folder)) as mesh:
            argv = ["--config-file", str(CONFIG), "run", f"{mesh.operator}/openapi.json"]
            argv += ["-H", f"Authorization: Bearer {ADMIN}", "--checks", "all", "--no-color", *words]
            phases = ["--phases", "examples,coverage,fuzzing"]
            process = await asyncio.create_subprocess_exec(tool, *argv, *phases, cwd=folder)
            return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(fuzz(*sys.argv[1:])))
