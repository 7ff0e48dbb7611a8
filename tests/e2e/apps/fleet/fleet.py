"""Hosts in MariaDB, sessions in Redis, HTTPS of its own; the two commands of the real one."""

import json
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pymysql
import yaml
from redis import Redis
from redis.exceptions import RedisError

CONFIG = yaml.safe_load(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
HOSTS = "CREATE TABLE IF NOT EXISTS hosts (id INTEGER AUTO_INCREMENT PRIMARY KEY, name VARCHAR(255))"


def database() -> pymysql.Connection:
    mysql = CONFIG["mysql"]
    host, port = mysql["address"].split(":")
    password = Path(mysql["password_path"]).read_text().strip()
    return pymysql.connect(
        host=host,
        port=int(port),
        user=mysql["username"],
        password=password,
        database=mysql["database"],
        connect_timeout=5,
        autocommit=True,
    )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    redis = Redis(CONFIG["redis"]["address"].split(":")[0], socket_timeout=5)

    def answer(self, code: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["name"]
        self.work("INSERT INTO hosts (name) VALUES (%s)", name)

    def do_GET(self) -> None:
        self.work("SELECT COUNT(*) FROM hosts")

    def work(self, query: str, *values: str) -> None:
        try:
            seen = self.redis.incr("requests")
            with database() as connection, connection.cursor() as cursor:
                cursor.execute(query, values)
                rows = cursor.fetchall()
            self.answer(200, {"count": rows[0][0] if rows else None, "seen": seen})
        except (pymysql.MySQLError, RedisError) as error:
            self.answer(503, repr(error))

    def log_message(self, *_: object) -> None:
        """Quiet."""


if sys.argv[1] == "prepare":
    while True:
        try:
            with database() as connection, connection.cursor() as cursor:
                cursor.execute(HOSTS)
            break
        except pymysql.MySQLError as error:
            print("again:", repr(error), flush=True)
            time.sleep(1)
else:
    server = ThreadingHTTPServer(("", 8080), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CONFIG["server"]["cert"], CONFIG["server"]["key"])
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()
