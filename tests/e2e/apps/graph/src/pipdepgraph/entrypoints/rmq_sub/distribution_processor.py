"""A distribution becomes a row and a candidate."""

import sys

sys.path.insert(0, "src")
from pipdepgraph.broker import consume, publish


def handle(cursor, channel, body: bytes) -> None:
    cursor.execute("INSERT INTO dists VALUES (%s) ON CONFLICT DO NOTHING", (body.decode(),))
    publish(channel, "candidates", body)


consume("dists", handle)
