"""A replica that cannot read what replicas share sends its sidecars to the others.

The engine beside it may be gone while its container runs on: it would serve by what it knew, and its sidecars
would miss every change. They hold what they have while they go over. Where no other replica is known they
stay: an old decision is better than none (fail static).
"""

from __future__ import annotations

import asyncio
import logging

from control_plane.distribution import Distribution
from control_plane.registry import Registry
from control_plane.siblings import Siblings

__all__ = ["hand_over"]

log = logging.getLogger(__name__)

LOOK_S = 1.0
UNREAD_S = 15.0
"""An election among managers takes as long; then reading goes on."""
AGAIN_S = 60.0
"""Some may have come back to us: the choice among replicas is by chance."""


async def hand_over(registry: Registry, distribution: Distribution, siblings: Siblings) -> None:
    """Watch over it until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        if registry.unread_s < UNREAD_S or not await siblings.others():
            continue
        log.warning("policies were not read for %.0f s: the sidecars go to other replicas", registry.unread_s)
        distribution.send_away("this replica cannot read what is shared; go to another one")
        await asyncio.sleep(AGAIN_S)
