"""News: articles in PostgreSQL, their analysis by Celery over Redis."""

import os

import psycopg2
from app.core.celery import analyse
from flask import Flask, request

web = Flask(__name__)


def run(text: str, *values: object) -> list:
    connection = psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=5)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(text, values)
            return cursor.fetchall()
    finally:
        connection.close()


@web.errorhandler(Exception)
def failed(error: Exception):
    return repr(error), 503


@web.post("/articles")
def publish():
    [(number,)] = run("INSERT INTO articles (text) VALUES (%s) RETURNING id", request.json["text"])
    words = analyse.apply_async((request.json["text"],), queue="high_priority").get(timeout=20)
    return {"id": number, "words": words}


@web.get("/articles")
def count():
    return {"count": run("SELECT COUNT(*) FROM articles")[0][0]}
