"""What sidecars remember, and how they answer when the control plane asks for it."""

from __future__ import annotations

import time

from proxy.look import answer, read_question
from proxy.plan import Reply
from proxy.recent import Alike, Recent
from proxy.telemetry import Edge, EdgeKey


def recent(direction):
    """What a sidecar of shop/web or shop/api remembers: 20 requests, every tenth failed, one denied."""
    found, now = Recent(), time.monotonic()
    edge = Edge(EdgeKey(direction, "shop/web", "shop/api", "api.shop", "http", is_mtls=True))
    for number in range(20):
        reply = (
            Reply(403, policy="AuthorizationPolicy shop/no", rule="rules[0]", stage="DENY")
            if number == 5
            else None
        )
        status = 403 if reply else 503 if number % 10 == 0 else 200
        alike = Alike(edge, "GET", "api", 1, status, "-", None, None)
        odd = (1, now, reply, None, None, "") if reply else None
        found.add(alike, b"", b"", True, now, now - number / 1000, f"/items/{number}", 10, 0, odd)
    return found


async def answers(sidecar, remembered):
    """Answer what the control plane asks, as `proxy.control_stream` does."""
    while True:
        frame = await sidecar.socket.receive_json()
        if frame["type"] == "look":
            await sidecar.socket.send_json(answer(remembered, read_question(frame)))
