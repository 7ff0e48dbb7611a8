"""The sample shop: `web` → `api` → `catalog` → and a Redis over opaque TCP; `loadgen` is its customers.

Run as `python -m meshpy.demo.shop ROLE`. Everything is set by environment: BIND, PORT, API_URL, CATALOG_URL,
REDIS (host:port), VERSION, FAIL_PCT, TARGET_URL, RATE (requests per second).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from meshpy.demo.redis_client import Redis, RedisError

__all__ = ["main"]

FORWARDED = ("x-request-id", "traceparent", "tracestate", "b3")
"""What an app must hand on for traces to hold together."""

ITEMS = [
    {"id": 1, "name": "teapot", "cents": 1900},
    {"id": 2, "name": "kettle", "cents": 3900},
    {"id": 3, "name": "cup", "cents": 700},
]


def _forwarded(request: web.Request) -> dict[str, str]:
    return {name: request.headers[name] for name in FORWARDED if name in request.headers}


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _caller() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=10),
        connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=30),
    )


def catalog_app() -> web.Application:
    """The catalog: answers its items and version; of every 100 answers FAIL_PCT are a 503."""
    version = os.environ.get("VERSION", "v1")
    fail_pct = float(os.environ.get("FAIL_PCT", "0"))

    async def items(_request: web.Request) -> web.Response:
        if random.random() * 100 < fail_pct:  # noqa: S311 - a fault drill, no secret
            return web.json_response({"error": "catalog is tired"}, status=503)
        return web.json_response({"version": version, "items": ITEMS})

    app = web.Application()
    app.add_routes([web.get("/items", items), web.get("/healthz", _healthz)])
    return app


def api_app() -> web.Application:
    """The API: products come from the catalog, orders go to Redis."""
    catalog_url = os.environ["CATALOG_URL"]
    redis = Redis.from_address(os.environ["REDIS"]) if os.environ.get("REDIS") else None
    orders_in_memory: Counter[str] = Counter()

    async def products(request: web.Request) -> web.Response:
        async with request.app[SESSION].get(f"{catalog_url}/items", headers=_forwarded(request)) as answer:
            body = await answer.read()
            if answer.status != 200:
                return web.Response(status=502, body=body)
        if redis is not None:
            await redis.command("INCR", "views")
        return web.Response(body=body, content_type="application/json")

    async def order(request: web.Request) -> web.Response:
        item = (await request.json())["id"]
        if redis is None:
            orders_in_memory["orders"] += 1
            return web.json_response({"order": orders_in_memory["orders"]}, status=201)
        return web.json_response({"order": await redis.command("RPUSH", "orders", str(item))}, status=201)

    async def admin(_request: web.Request) -> web.Response:
        return web.json_response({"orders": await redis.command("LLEN", "orders") if redis else 0})

    @web.middleware
    async def say_when_redis_is_down(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RedisError as error:
            return web.json_response({"error": str(error)}, status=502)

    app = web.Application(middlewares=[say_when_redis_is_down])
    app.cleanup_ctx.append(_session)
    app.add_routes(
        [
            web.get("/products", products),
            web.post("/orders", order),
            web.get("/admin", admin),
            web.get("/healthz", _healthz),
        ]
    )
    return app


def web_app() -> web.Application:
    """The front: every path under / is asked of the API and shown as it came."""
    api_url = os.environ["API_URL"]

    async def page(request: web.Request) -> web.Response:
        path = "/products" if request.path == "/" else request.path
        async with request.app[SESSION].request(
            request.method, f"{api_url}{path}", headers=_forwarded(request), data=await request.read()
        ) as answer:
            kept = {
                name: value for name, value in answer.headers.items() if name.lower().startswith("x-meshpy-")
            }
            content_type = answer.content_type
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=content_type, headers=kept
            )

    app = web.Application()
    app.cleanup_ctx.append(_session)
    app.add_routes([web.get("/healthz", _healthz), web.route("*", "/{path:.*}", page)])
    return app


SESSION: web.AppKey[aiohttp.ClientSession] = web.AppKey("session", aiohttp.ClientSession)


async def _session(app: web.Application):  # type: ignore[no-untyped-def]  # noqa: ANN202 - an aiohttp cleanup context
    async with _caller() as session:
        app[SESSION] = session
        yield


async def _ask(session: aiohttp.ClientSession, counts: Counter[str], turn: int) -> None:
    """One customer: mostly looks, sometimes orders, now and then tries a door that is not theirs."""
    target = os.environ["TARGET_URL"]
    method, path, body = "GET", "/", None
    if turn % 10 == 3:
        method, path, body = "POST", "/orders", json.dumps({"id": 1 + turn % 3})
    elif turn % 50 == 7:
        method, path = "GET", "/admin"
    try:
        async with session.request(method, f"{target}{path}", data=body) as answer:
            await answer.read()
            counts[f"{method} {path} {answer.status}"] += 1
    except (aiohttp.ClientError, TimeoutError) as error:
        counts[f"{method} {path} {type(error).__name__}"] += 1


async def loadgen() -> None:
    """Send RATE requests per second, evenly spaced; print what came back every five seconds."""
    interval_s = 1 / float(os.environ.get("RATE", "50"))
    counts: Counter[str] = Counter()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _caller() as session, asyncio.TaskGroup() as group:
        begin, turn, printed = time.monotonic(), 0, 0.0
        while not stop.is_set():
            group.create_task(_ask(session, counts, turn))
            turn += 1
            now = time.monotonic() - begin
            if now - printed >= 5:
                printed = now
                print(json.dumps({"seconds": round(now, 1), **counts}), flush=True)  # noqa: T201 - its log
            await asyncio.sleep(max(0.0, turn * interval_s - now))


def main() -> None:
    """Run one role of the shop until SIGTERM."""
    apps = {"web": web_app, "api": api_app, "catalog": catalog_app}
    role = sys.argv[1] if len(sys.argv) == 2 else ""
    if role == "loadgen":
        asyncio.run(loadgen())
    elif role in apps:
        web.run_app(
            apps[role](),
            host=os.environ.get("BIND", "0.0.0.0"),
            port=int(os.environ.get("PORT", "8080")),
            access_log=None,
            print=None,
        )
    else:
        sys.exit(f"usage: python -m meshpy.demo.shop {'|'.join([*apps, 'loadgen'])}")


if __name__ == "__main__":
    main()
