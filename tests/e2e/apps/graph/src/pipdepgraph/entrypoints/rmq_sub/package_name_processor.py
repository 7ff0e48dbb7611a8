"""A name becomes a row and a distribution to look at."""

import sys

sys.path.insert(0, "src")
from pipdepgraph.broker import consume, publish


def handle(cursor, channel, body: bytes) -> None:
    name = body.decode()
    cursor.execute("INSERT INTO names VALUES (%s) ON CONFLICT DO NOTHING", (name,))
    publish(channel, "dists", f"{name}-1.0".encode())


consume("names", handle)
