"""A gRPC application of the library that users have, and calls of it; bytes are their own messages."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field

import grpc

SERVICE = "/shop.Catalog/"


@dataclass
class App(grpc.GenericRpcHandler):
    """Answers by the name of the method, and counts calls; `cancelled` is set when a caller gave up."""

    calls: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    left_s: list[float] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    waits: threading.Event = field(default_factory=threading.Event)
    fails: int = 0
    port: int = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = details.method.removeprefix(SERVICE)
        self.calls.append(name)
        self.metadata = dict(details.invocation_metadata)
        kinds = {
            "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: b"re:" + request),
            "Flaky": grpc.unary_unary_rpc_method_handler(self._flaky),
            "Refuse": grpc.unary_unary_rpc_method_handler(self._refuse),
            "Wait": grpc.unary_unary_rpc_method_handler(self._wait),
            "Download": grpc.unary_stream_rpc_method_handler(self._download),
            "Upload": grpc.stream_unary_rpc_method_handler(lambda parts, _: b"%d" % sum(map(len, parts))),
            "Chat": grpc.stream_stream_rpc_method_handler(lambda parts, _: (b"re:" + part for part in parts)),
            "Half": grpc.unary_stream_rpc_method_handler(self._half),
        }
        return kinds.get(name)

    def _flaky(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        if self.calls.count("Flaky") <= self.fails:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return request

    def _refuse(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("x-reason", "why"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nein, ünder keinen Umständen")
        raise AssertionError

    def _wait(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        self.left_s.append(context.time_remaining())
        self.waits.set()
        over = threading.Event()
        context.add_callback(over.set)
        if over.wait(10):
            self.cancelled.set()
        return b""

    def _download(self, request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        count, size = map(int, request.split(b"x"))
        part = bytes(size)
        for _ in range(count):
            yield part

    def _half(self, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        context.abort(grpc.StatusCode.DATA_LOSS, "no more")


@contextlib.contextmanager
def grpc_app() -> Iterator[App]:
    """The application on a free loopback port."""
    app = App()
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((app,))
    app.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield app
    finally:
        server.stop(0).wait(5)


@contextlib.contextmanager
def channel(port: int) -> Iterator[grpc.Channel]:
    """A channel that does not repeat anything by itself."""
    options = (
        ("grpc.enable_retries", 0),
        ("grpc.default_authority", "api"),
        ("grpc.max_receive_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as made:
        yield made


@dataclass(frozen=True)
class Failed:
    """How a call ended that did not end well."""

    code: grpc.StatusCode
    details: str
    trailers: dict[str, str]


def unary(port: int, method: str, request: bytes = b"hi", timeout_s: float | None = 10) -> bytes | Failed:
    """One unary call."""
    with channel(port) as made:
        return tried(lambda: made.unary_unary(SERVICE + method)(request, timeout=timeout_s))


def tried(call) -> bytes | Failed:
    try:
        return call()
    except grpc.RpcError as error:
        trailers = {key: str(value) for key, value in error.trailing_metadata() or ()}
        return Failed(error.code(), error.details(), trailers)
