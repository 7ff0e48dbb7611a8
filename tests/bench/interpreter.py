"""Which Python the measured sidecar and the floor run on: that of the images, where it is here.

A Python that was compiled on the spot, as pyenv does it, is built without profile and link-time optimisation
and costs a seventh more for the same request than Debian's, on which the images run. Images hold bytecode,
and so does a folder of the bench: what compiles itself at start keeps some of the memory that this took.
"""

import functools
import os
import subprocess
import sys
import sysconfig

from tests.bench.processes import ROOT

_IMAGES = "/usr/bin/python3"
_BYTECODE = ROOT / "build/bench/bytecode"
_ASKED = "import sys; print(*sys.version_info[:2], sys.version.split()[0])"


@functools.cache
def interpreter():
    """The command that runs a module or file of ours, and its name for the report."""
    if os.access(_IMAGES, os.X_OK):
        done = subprocess.run([_IMAGES, "-c", _ASKED], capture_output=True, text=True, timeout=30, check=True)
        major, minor, version = done.stdout.split()
        if (int(major), int(minor)) == sys.version_info[:2]:
            path = os.pathsep.join((str(ROOT), sysconfig.get_path("purelib")))
            kept = [f"PYTHONPYCACHEPREFIX={_BYTECODE}", "PYTHONDONTWRITEBYTECODE="]
            command = ["env", f"PYTHONPATH={path}", *kept, _IMAGES]
            subprocess.run([*command, "-c", "import proxy.start"], timeout=60, check=True)
            return command, f"{version} of the system"
    return [sys.executable], f"{sys.version.split()[0]} of this environment"
