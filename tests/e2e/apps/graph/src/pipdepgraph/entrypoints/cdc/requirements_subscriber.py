"""Counts the changes that the broker hands out; the count is on its standard output."""

import sys

sys.path.insert(0, "src")
from pipdepgraph.broker import channel, run

seen: set[bytes] = set()


def work() -> None:
    from_queue = channel()
    for method, _, body in from_queue.consume("changes"):
        seen.add(body)
        print("seen", len(seen), flush=True)
        from_queue.basic_ack(method.delivery_tag)


run(work)
