"""Carries votes from Redis to PostgreSQL; a voter's last vote counts."""

import json
import time

import psycopg2
from redis import Redis
from redis.exceptions import RedisError

TABLE = "CREATE TABLE IF NOT EXISTS votes (id VARCHAR(255) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL)"
STORE = "INSERT INTO votes VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET vote = EXCLUDED.vote"


def work() -> None:
    redis = Redis(host="redis", socket_timeout=20)
    database = psycopg2.connect(host="db", user="postgres", connect_timeout=5)
    database.autocommit = True
    with database.cursor() as cursor:
        cursor.execute(TABLE)
        while True:
            found = redis.blpop("votes", 10)
            if found is not None:
                vote = json.loads(found[1])
                try:
                    cursor.execute(STORE, (vote["voter_id"], vote["vote"]))
                except psycopg2.Error:
                    redis.lpush("votes", found[1])
                    raise


while True:
    try:
        work()
    except (psycopg2.Error, RedisError) as error:
        print("again:", repr(error), flush=True)
        time.sleep(0.5)
