"""Items in PostgreSQL; the password is a secret, each request a line of a log that another service reads."""

import os
from pathlib import Path

import psycopg2
from flask import Flask, request

app = Flask(__name__)
env = os.environ
LOG = Path(env["LOG_DIR"]) / "app.log"


def run(text: str, *values: object) -> list:
    password = Path(env["DB_PASSWORD_FILE"]).read_text().strip()
    connection = psycopg2.connect(
        host=env["DB_HOST"],
        port=env["DB_PORT"],
        dbname=env["DB_NAME"],
        user=env["DB_USER"],
        password=password,
        connect_timeout=5,
    )
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS items (id SERIAL PRIMARY KEY, name TEXT)")
            cursor.execute(text, values)
            return cursor.fetchall()
    finally:
        connection.close()


@app.errorhandler(psycopg2.Error)
def failed(error: psycopg2.Error):
    return repr(error), 503


@app.route("/items", methods=["GET", "POST"])
def items():
    with LOG.open("a") as log:
        log.write(f"{request.method} /items\n")
    if request.method == "POST":
        return {"id": run("INSERT INTO items (name) VALUES (%s) RETURNING id", request.json["name"])[0][0]}
    return {"count": run("SELECT COUNT(*) FROM items")[0][0]}
