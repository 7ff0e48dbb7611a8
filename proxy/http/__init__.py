"""HTTP/1.1 without sockets: bytes to events and back, strict where two readers could differ.

`h1` reads a connection (RequestParser, ResponseParser) and yields `events`; `head` reads one head, with
`fields`, `authority` and `target` as its parts and `diagnose` to say why one is refused; `chunked` is the
transfer coding; `encode` writes heads and chunks for the next hop; `hygiene` knows which fields may pass it.
Paths are normalised in `meshpy.engine.normalise`, once: policy judges what is forwarded.
"""
