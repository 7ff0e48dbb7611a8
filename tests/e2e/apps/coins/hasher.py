"""SHA-256 of what is posted."""

import hashlib

from flask import Flask, request

app = Flask(__name__)


@app.post("/")
def hasher() -> str:
    return hashlib.sha256(request.get_data()).hexdigest()
