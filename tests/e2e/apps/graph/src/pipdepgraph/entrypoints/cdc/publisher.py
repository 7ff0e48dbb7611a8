"""Listens to the database on one connection and hands each change to the broker."""

import select
import sys
from contextlib import closing

sys.path.insert(0, "src")
from pipdepgraph.broker import channel, database, publish, run


def work() -> None:
    to = channel()
    with closing(database()) as connection, connection.cursor() as cursor:
        cursor.execute("LISTEN candidates")
        print("listening", flush=True)
        while True:
            select.select([connection], [], [], 5)
            connection.poll()
            to.connection.process_data_events()
            while connection.notifies:
                publish(to, "changes", connection.notifies.pop(0).payload.encode())


run(work)
