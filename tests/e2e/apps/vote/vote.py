"""The ballot: a vote is an entry of a list in Redis, as in the well-known example."""

import json
import os
import uuid

from flask import Flask, request
from redis import Redis

app = Flask(__name__)
redis = Redis(host="redis", db=0, socket_timeout=5)


@app.route("/", methods=["GET", "POST"])
def ballot():
    voter = request.cookies.get("voter_id") or uuid.uuid4().hex
    if request.method == "POST":
        redis.rpush("votes", json.dumps({"voter_id": voter, "vote": request.form["vote"]}))
    return {"voter": voter, "host": os.uname().nodename}
