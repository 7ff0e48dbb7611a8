"""Nanoseconds per head: ours, and httptools where it is installed, interleaved in one run.

Usage: python tests/bench/http1_parse.py [ROUNDS]
"""

from __future__ import annotations

import sys
import timeit

from proxy.http.encode import encode_request_head, encode_response_head
from proxy.http.request_head import parse_request_head
from proxy.http.response_head import parse_response_head

REQUEST = (
    b"GET /api/v1/products/42?currency=EUR HTTP/1.1\r\nHost: catalog.shop:8080\r\n"
    b"User-Agent: python-requests/2.31.0\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Connection: keep-alive\r\nX-Request-Id: 8f14e45f-ceea-467f-a34e-b2f7a1c9d001\r\n"
    b"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
    b"Cookie: session=abcdef0123456789\r\nContent-Type: application/json\r\nX-Forwarded-For: 10.0.0.7\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 04:00:00 GMT\r\n"
    b"Server: nginx\r\nContent-Type: application/json\r\n"
    b'Content-Length: 1024\r\nConnection: keep-alive\r\nCache-Control: no-cache\r\nEtag: "abc"\r\n'
    b"X-Request-Id: 8f14e45f-ceea-467f-a34e-b2f7a1c9d001\r\n\r\n"
)
CALLS = 2000


def _httptools_cases():
    try:
        import httptools
    except ImportError:
        return {}

    class Sink:
        def __init__(self):
            self.headers = []

        def on_url(self, url):
            self.url = url

        def on_header(self, name, value):
            self.headers.append((name, value))

    return {
        "httptools request": lambda: httptools.HttpRequestParser(Sink()).feed_data(REQUEST),
        "httptools response": lambda: httptools.HttpResponseParser(Sink()).feed_data(RESPONSE),
    }


def _lines_only():
    """The floor in pure Python: split, partition and lower, nothing checked."""
    pairs = [line.partition(b":") for line in REQUEST.split(b"\r\n")[1:-2]]
    return {name.lower(): value.strip() for name, _, value in pairs}


def main(rounds: int) -> None:
    request, response = parse_request_head(REQUEST), parse_response_head(RESPONSE, "GET")
    cases = {
        "unchecked split of the request": _lines_only,
        "parse request head": lambda: parse_request_head(REQUEST),
        "parse response head": lambda: parse_response_head(RESPONSE, "GET"),
        "encode request head": lambda: encode_request_head(request),
        "encode response head": lambda: encode_response_head(response),
        **_httptools_cases(),
    }
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds):
        for name, case in cases.items():
            best[name] = min(best[name], timeit.timeit(case, number=CALLS) / CALLS * 1e9)
    for name, nanoseconds in best.items():
        print(f"{name:34} {nanoseconds:8.0f} ns")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
