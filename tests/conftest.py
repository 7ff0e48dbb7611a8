"""Where tests write: in memory, where there is room; most of their time was waiting for a disk's fsync.

And no example of hypothesis has a deadline: on a machine with neighbours any takes 200 ms now and then.
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import settings

settings.register_profile("meshpy", settings(), deadline=None)  # of that in force: CI has one of its own
settings.load_profile("meshpy")

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30


def pytest_configure() -> None:
    """Before the first folder is made; who names a place of his own, and the e2e, keep theirs."""
    named = {"PYTEST_DEBUG_TEMPROOT", "MESHPY_E2E_STATE"} & os.environ.keys()
    if not named and _has_room():
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


def _has_room() -> bool:
    if not os.access(MEMORY, os.W_OK):
        return False
    told = os.statvfs(MEMORY)
    is_executable = not told.f_flag & os.ST_NOEXEC  # tests write programs too
    return is_executable and told.f_bavail * told.f_frsize >= ROOM_BYTES
