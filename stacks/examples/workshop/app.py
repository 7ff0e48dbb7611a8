"""The apps of the workshop: plain HTTP and gRPC to each other, nothing of a mesh in them."""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator

import grpc
from aiohttp import ClientSession, web


async def ask(request: web.Request) -> web.Response:
    """door: pass `x-password` on to the room."""
    headers = {name: request.headers[name] for name in ("x-password",) if name in request.headers}
    async with ClientSession() as session, session.get("http://room:8080/", headers=headers) as answer:
        return web.Response(status=answer.status, text=await answer.text())


async def talk(request: web.Request) -> web.Response:
    """door: say what the query holds to the chat, and tell what came back."""
    async with ClientSession() as session, session.ws_connect("http://chat:8080/") as socket:
        await socket.send_str(request.query.get("say", "hello"))
        return web.Response(text=f"{await socket.receive_str(timeout=5)}\n")


async def leave(request: web.Request) -> web.Response:
    """door: call a host outside, through whatever proxy the environment names."""
    url = f"http://{request.query['host']}/"
    async with ClientSession(trust_env=True) as session, session.get(url) as answer:
        return web.Response(text=f"{answer.status}\n")


async def call(request: web.Request) -> web.Response:
    """door: call a method of the greeter, over gRPC; messages are bytes, for want of a .proto."""
    method = request.app[GREETER].unary_unary(f"/greeter.Greeter/{request.match_info['method']}")
    try:
        answer = await method(request.query.get("say", "").encode(), timeout=5)
    except grpc.RpcError as error:
        return web.Response(text=f"{error.code().name}: {error.details()}\n")
    return web.Response(text=f"{answer.decode()}\n")


GREETER: web.AppKey[grpc.aio.Channel] = web.AppKey("greeter", grpc.aio.Channel)


async def greeter_of(app: web.Application) -> AsyncIterator[None]:
    """door: one channel for all calls, as gRPC programs have it."""
    async with grpc.aio.insecure_channel("greeter:50051") as app[GREETER]:
        yield


class Greeter(grpc.GenericRpcHandler):
    """greeter: `Hello` answers, `Sleepy` does at every third call, `Secret` would to anybody."""

    def __init__(self) -> None:
        self.calls = itertools.count(1)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        methods = {"Hello": self.hello, "Sleepy": self.sleepy, "Secret": self.secret}
        method = methods.get(details.method.removeprefix("/greeter.Greeter/"))
        return method and grpc.unary_unary_rpc_method_handler(method)

    async def hello(self, name: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return b"hello, " + name

    async def sleepy(self, name: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if (call := next(self.calls)) % 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return b"hello at call %d, " % call + name

    async def secret(self, _name: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return b"the treasure is under the stairs"


async def greet() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Greeter(),))
    server.add_insecure_port("0.0.0.0:50051")
    await server.start()
    await server.wait_for_termination()


async def room(request: web.Request) -> web.Response:
    return web.Response(text=f"welcome, {request.headers.get('x-guest', 'stranger')}\n")


async def gate(request: web.Request) -> web.Response:
    """Envoy's ext_authz over HTTP: 200 lets pass, with headers for the app; anything else is the answer."""
    if request.headers.get("x-password") == "friend":
        return web.Response(headers={"x-guest": "friend"})
    return web.Response(status=403, text="say the word\n")


async def chat(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"you said {message.data}")
    return socket


ROUTES = {
    "door": [
        web.get("/room", ask),
        web.get("/chat", talk),
        web.get("/out", leave),
        web.get("/grpc/{method}", call),
    ],
    "room": [web.get("/", room)],
    "gate": [web.route("*", "/{path:.*}", gate)],
    "chat": [web.get("/", chat)],
}

if sys.argv[1] == "greeter":
    asyncio.run(greet())
else:
    app = web.Application()
    app.add_routes(ROUTES[sys.argv[1]])
    if sys.argv[1] == "door":
        app.cleanup_ctx.append(greeter_of)
    web.run_app(app, port=8080, access_log=None, print=None)
