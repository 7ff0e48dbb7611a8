"""What runs in the Swarm, read from the engine's socket."""

import http.client
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        engine = http.client.HTTPConnection("engine")
        engine.sock = socket.socket(socket.AF_UNIX)
        engine.sock.connect("/var/run/docker.sock")
        engine.request("GET", "/services")
        body = engine.getresponse().read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 8080), Handler).serve_forever()
