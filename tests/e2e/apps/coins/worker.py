"""Mines: random bytes from `rng`, their hash from `hasher`, the score in Redis."""

import contextlib
import time

import requests
from redis import Redis
from redis.exceptions import RedisError

redis = Redis("redis", socket_timeout=10)
http = requests.Session()


def mine() -> None:
    answer = http.get("http://rng/32", timeout=10)
    answer.raise_for_status()
    hashed = http.post("http://hasher/", data=answer.content, timeout=10)
    hashed.raise_for_status()
    if len(hashed.text) != 64:
        raise ValueError(hashed.text)
    redis.incrby("hashes", 1)
    if hashed.text.startswith("0"):
        redis.hset("wallet", hashed.text, answer.content)


while True:
    try:
        mine()
        time.sleep(0.1)
    except (requests.RequestException, RedisError, ValueError) as error:
        print("again:", repr(error), flush=True)
        with contextlib.suppress(RedisError):
            redis.incrby("errors", 1)
        time.sleep(0.5)
