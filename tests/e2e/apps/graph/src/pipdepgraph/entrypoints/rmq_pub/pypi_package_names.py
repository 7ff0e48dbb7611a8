"""`prepare`: the tables and the second user. A number: so many names for the broker. `count`: the rows."""

import json
import sys
from contextlib import closing

sys.path.insert(0, "src")
from pipdepgraph.broker import channel, database, publish

TABLES = ("names", "dists", "candidates")
with closing(database()) as connection, connection.cursor() as cursor:
    if sys.argv[1] == "prepare":
        for table in TABLES:
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {table} (name TEXT PRIMARY KEY)")
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = 'cdc_user'")
        if cursor.fetchone() is None:
            cursor.execute("CREATE ROLE cdc_user LOGIN PASSWORD 'password'")
    elif sys.argv[1] == "count":
        found = {}
        for table in TABLES:
            cursor.execute(f"SELECT COUNT(*) FROM {table} WHERE name LIKE %s", (f"{sys.argv[2]}%",))
            found[table] = cursor.fetchone()[0]
        print(json.dumps(found))
    else:
        to = channel()
        for number in range(int(sys.argv[1])):
            publish(to, "names", f"{sys.argv[2]}-{number}".encode())
