"""Counts the changes that the broker hands out, by the batch in their names; the counts are its output."""

import sys
from collections import defaultdict

sys.path.insert(0, "src")
from pipdepgraph.broker import channel, run

seen: dict[str, set[bytes]] = defaultdict(set)


def work() -> None:
    from_queue = channel()
    for method, _, body in from_queue.consume("changes"):
        batch = body.decode().partition("-")[0]
        seen[batch].add(body)
        print("seen", batch, len(seen[batch]), flush=True)
        from_queue.basic_ack(method.delivery_tag)


run(work)
