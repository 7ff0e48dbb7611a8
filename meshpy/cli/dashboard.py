"""`meshpy dashboard`: the control plane's page on a loopback port.

A browser knows neither the mesh's CA nor its SPIFFE ids, so it does not speak to the control plane itself:
this process does, checks its identity as every command does, and adds the operator's token. The browser gets
a token of its own that is good for this process only.
"""

from __future__ import annotations

import hmac
import secrets
import sys
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import click

from meshpy.cli.output import ask_format, print_result
from meshpy.client import ApiError, Context, Operator

__all__ = ["bridge", "dashboard"]

MAX_BODY = 4 * 1024 * 1024
_KEPT = frozenset(
    (
        "cache-control", "content-encoding", "content-security-policy", "content-type", "etag",
        "referrer-policy", "vary", "x-frame-options",
    )
)  # fmt: skip
_SENT = ("Content-Type", "If-None-Match", "Accept", "Accept-Encoding")


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="On 127.0.0.1; any free one by default."
)
@click.option("--open/--no-open", "opens", default=sys.stdout.isatty(), help="Open a browser.")
@ask_format
def dashboard(port: int, opens: bool, output: str) -> None:
    """Show the dashboard in a browser, until Ctrl-C.

    \b
    Example:
      meshpy dashboard --port 8080 --no-open
    """
    operator = Operator(Context.load())
    operator.call("GET", "/v1/status")
    server, token = bridge(operator, port)
    link = f"http://127.0.0.1:{server.server_port}/dashboard/#token={token}"
    print_result(output, {"url": link}, link)
    if opens:
        webbrowser.open(link)
    with server:
        server.serve_forever()


def bridge(operator: Operator, port: int) -> tuple[ThreadingHTTPServer, str]:
    """A server on loopback, not yet serving, and the token that a browser must show it."""
    session = secrets.token_urlsafe(24)

    class Bound(_Bridge):
        pass

    Bound.operator, Bound.session = operator, session
    return ThreadingHTTPServer(("127.0.0.1", port), Bound), session


class _Bridge(BaseHTTPRequestHandler):
    """One request of the browser."""

    protocol_version = "HTTP/1.1"
    operator: ClassVar[Operator]
    session: ClassVar[str]

    def do_GET(self) -> None:
        self._pass_on()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the base class calls them so

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing; the terminal shows the link."""

    def _pass_on(self) -> None:
        port = self.server.server_port  # type: ignore[attr-defined]  # set by HTTPServer
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self._answer(421, b"this bridge is for 127.0.0.1 alone\n")
            return
        is_page = self.path == "/" or self.path.startswith("/dashboard")
        shown = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not is_page and not hmac.compare_digest(shown.encode(), self.session.encode()):
            self._answer(401, b"open the link that `meshpy dashboard` printed\n")
            return
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self._answer(413, b"the body is too large\n")
            return
        body = self.rfile.read(int(length)) if int(length) else None
        headers = {name: self.headers[name] for name in _SENT if name in self.headers}
        try:
            answer = self.operator.send(self.command, self.path, headers, body)
        except ApiError as error:
            self._answer(502, f"{error}\n".encode())
            return
        kept = [(name, value) for name, value in answer.headers if name.lower() in _KEPT]
        kept += [(name, value) for name, value in answer.headers if name.lower() == "location"]
        self._answer(answer.status, answer.body, kept)

    def _answer(self, status: int, body: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        self.send_response(status)
        for name, value in headers or [("Content-Type", "text/plain; charset=utf-8")]:
            self.send_header(name, value)
        self.send_header("X-Content-Type-Options", "nosniff")
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        if status >= 400:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body if status != 304 else b"")
