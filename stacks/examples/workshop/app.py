"""The apps of the workshop: plain HTTP to each other, nothing of a mesh in them."""

import sys

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
    "door": [web.get("/room", ask), web.get("/chat", talk), web.get("/out", leave)],
    "room": [web.get("/", room)],
    "gate": [web.route("*", "/{path:.*}", gate)],
    "chat": [web.get("/", chat)],
}

app = web.Application()
app.add_routes(ROUTES[sys.argv[1]])
web.run_app(app, port=8080, access_log=None, print=None)
