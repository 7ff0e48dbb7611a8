"""`POST /v1/explain`, `/v1/diff`, `GET /v1/suggest`: what policies mean for requests, before they apply.

The tools' own code answers, over what the sidecars hold and what they would hold; in a thread, one at a time,
because a large mesh takes seconds to analyse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aiohttp import web

from control_plane.api.body import check_members, json_body, member
from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.schemas import DIFFED, EXPLAINED
from control_plane.errors import BadRequest, RateLimited
from control_plane.gathered import all_flows
from control_plane.in_force import InForce
from control_plane.parts import Parts
from meshpy.analysis.diff import diff
from meshpy.analysis.suggest import Threshold, suggest
from meshpy.cli.live import merged
from meshpy.cli.observed import LiveFlows
from meshpy.cli.offline import Offline, Question, parse_headers, split_port
from meshpy.engine.prepared import Prepared
from meshpy.errors import MeshpyError
from meshpy.policy import PolicySet, load, load_documents

__all__ = ["AnalysisRoutes"]

Found = TypeVar("Found")

MAX_BODY = 1024 * 1024
MAX_CHANGES = 200
WAIT_S = 10.0


class AnalysisRoutes:
    """Handlers of the questions."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._turn = asyncio.Lock()

    def routes(self) -> list[Route]:
        view, answer = Role.VIEWER, {"type": "object"}
        return [
            Route("POST", "/v1/explain", self.explain, view, "Who may send what, and why",
                  (200, "as `meshpy policy explain -o json`", answer), body=EXPLAINED),
            Route("POST", "/v1/diff", self.diff, view, "Which requests documents would treat otherwise",
                  (200, "as `meshpy policy diff -o json`", answer), body=DIFFED),
            Route("GET", "/v1/suggest", self.suggest, view, "Policies from what was just seen",
                  (200, "as `meshpy policy suggest -o json`", answer)),
        ]  # fmt: skip

    async def explain(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        body = await json_body(request, MAX_BODY)
        check_members(body, *EXPLAINED["properties"])
        source, target = member(body, "source", str), member(body, "destination", str)
        lines = body.get("headers", [])
        if not isinstance(lines, list) or not all(isinstance(each, str) for each in lines):
            raise BadRequest("`headers` is a list of `name: value`")
        namespace = member(body, "namespace", str, "default")
        try:
            host, port = split_port(target)
            method, path = member(body, "method", str), member(body, "path", str)
            question = Question(source, host, port, method, path, parse_headers(lines))
        except MeshpyError as error:
            raise BadRequest(str(error)) from error
        registry = self._parts.registry
        held = InForce(registry.shelf.items())
        ready = Prepared(held, speaking_of=held.speaking_of)
        mesh = Offline(namespace, registry.view.inventory, ready, ())

        def ask() -> dict[str, Any]:
            return mesh.ask(question).to_json()

        return web.json_response(await self._in_turn(ask))

    async def diff(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        body = await json_body(request, MAX_BODY)
        check_members(body, *DIFFED["properties"])
        items, prune = member(body, "documents", list), member(body, "prune", bool, False)
        member(body, "message", str, "")
        if not all(isinstance(each, dict) for each in items):
            raise BadRequest("`documents` is a list of {name, text}")
        for each in items:
            check_members(each, "name", "text")
        texts = [(member(each, "name", str), member(each, "text", str)) for each in items]
        namespace = member(body, "default_namespace", str, "default")
        registry = self._parts.registry
        old = InForce(registry.shelf.items())
        wanted = await asyncio.to_thread(self._wanted, texts, namespace, prune=prune)
        new = InForce(await registry.would_be(wanted), old)

        def ask() -> dict[str, Any]:
            return diff(old, new).to_json()

        found = await self._in_turn(ask)
        changes = found.get("changes", [])
        return web.json_response(
            {**found, "changes": changes[:MAX_CHANGES], "more": max(0, len(changes) - MAX_CHANGES)}
        )

    async def suggest(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        others = await self._parts.siblings.ask(request, "/v1/flows")
        told = {
            **all_flows([self._parts.reports.flows.told(), *others.answers]),
            "silent": others.missing,
        }
        if not told["callees"]:
            return web.json_response({"suggestions": []})

        def ask() -> list[dict[str, object]]:
            return [each.to_json() for each in suggest(LiveFlows.of(told).observed, Threshold())]

        return web.json_response({"suggestions": await self._in_turn(ask)})

    def _wanted(self, texts: Sequence[tuple[str, str]], namespace: str, *, prune: bool) -> PolicySet:
        """The set as it would be with these documents."""
        fresh = load(texts, namespace)
        if prune:
            return fresh
        return load_documents(merged(self._parts.registry.documents, fresh.documents))

    async def _in_turn(self, ask: Callable[[], Found]) -> Found:
        try:
            async with asyncio.timeout(WAIT_S):
                await self._turn.acquire()
        except TimeoutError:
            raise RateLimited(WAIT_S) from None
        try:
            return await asyncio.to_thread(ask)
        except MeshpyError as error:
            raise BadRequest(str(error)) from error
        finally:
            self._turn.release()
