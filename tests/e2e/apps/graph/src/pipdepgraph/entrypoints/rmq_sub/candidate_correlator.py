"""A candidate becomes a row, of which the database tells whoever listens."""

import sys

sys.path.insert(0, "src")
from pipdepgraph.broker import consume


def handle(cursor, channel, body: bytes) -> None:
    del channel
    name = body.decode()
    cursor.execute("INSERT INTO candidates VALUES (%s) ON CONFLICT DO NOTHING", (name,))
    cursor.execute("SELECT pg_notify('candidates', %s)", (name,))


consume("candidates", handle)
