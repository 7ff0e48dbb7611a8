"""Random bytes."""

import os

from flask import Flask, Response

app = Flask(__name__)


@app.route("/<int:how_many>")
def rng(how_many: int) -> Response:
    return Response(os.urandom(how_many), content_type="application/octet-stream")
