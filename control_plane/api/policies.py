"""`/v1/policies` and `/v1/revisions`: what is in force, what was, and how it changes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from control_plane.api.body import check_members, json_body, member
from control_plane.api.conditions import expected_by, tagged
from control_plane.api.operators import Role, require
from control_plane.api.routes import Route, flag
from control_plane.api.schemas import APPLIED, DOCUMENTS, PINNED, POLICIES, REVISION_LIST, WAITED
from control_plane.api.texts import is_line, is_prose, prose
from control_plane.errors import BadRequest, Conflict, NotFound, PreconditionFailed
from control_plane.parts import Parts
from control_plane.policy_set import removed, upserted
from control_plane.registry import Applied, Change
from control_plane.rollout import Plan, parse_plan
from control_plane.siblings import ANSWER_S
from control_plane.store.revisions import Document, Revision
from meshpy.model.names import CONTROL_PLANE

__all__ = ["PolicyRoutes", "message_of"]

MAX_BODY = 4 * 1024 * 1024
MAX_DOCUMENTS = 2_000
MAX_NAME = 512
MAX_MESSAGE = 1_000
MAX_NUMBER = 10**15
MAX_WAIT_S = 60.0
DEFAULT_WAIT_S = 10.0
AGAIN_S = 0.3
DRY_RUN = {"dry_run": ({"type": "boolean", "default": False}, "check and compile only; nothing is changed")}
WHY = {**DRY_RUN, "message": (prose(MAX_MESSAGE), "why")}

LIMIT = {
    "limit": ({"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}, "how many"),
    "before": (
        {"type": "integer", "minimum": 1, "maximum": 10**15},
        "only older ones than this; `next` of the page before",
    ),
}
WAIT = {"timeout_s": ({"type": "number", "minimum": 0, "maximum": MAX_WAIT_S}, "how long to wait")}


class PolicyRoutes:
    """Handlers of the policy set."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        applied = (200, "the new revision is stored and on its way to the sidecars", APPLIED)
        policies = (200, "the policy set", POLICIES)
        revisions = (200, "newest first", REVISION_LIST)
        waited = (200, "whether it is in force everywhere", WAITED)
        all_, one = "/v1/policies", "/v1/policies/{kind}/{namespace}/{name}"
        number = "/v1/revisions/{number}"
        view, edit = Role.VIEWER, Role.EDITOR
        return [
            Route("GET", all_, self.show, view, "The policies in force", policies),
            Route("PUT", all_, self.put, edit, "Replace the whole set", applied, DRY_RUN, DOCUMENTS),
            Route("PATCH", all_, self.patch, edit, "Add or replace policies", applied, DRY_RUN, DOCUMENTS),
            Route("DELETE", one, self.delete, edit, "Remove one policy", applied, WHY),
            Route("GET", "/v1/revisions", self.list, view, "Revisions", revisions, LIMIT),
            Route("GET", number, self.show_revision, view, "One revision", policies),
            Route("PUT", f"{number}/pin", self.pin, edit, "Keep it for good", (200, "it is kept", PINNED)),
            Route("DELETE", f"{number}/pin", self.unpin, edit, "Let it go", (200, "it may go", PINNED)),
            Route("POST", f"{number}/rollback", self.rollback, edit, "Bring it back", applied, WHY),
            Route("GET", f"{number}/wait", self.wait, view, "Wait until it is in force", waited, WAIT),
        ]

    async def show(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        revision = self._parts.registry.revision
        return tagged(request, revision.number, _printed(revision))

    async def put(self, request: web.Request) -> web.Response:
        author = require(request, Role.EDITOR)
        wanted = await _wanted(request)
        incoming = await self._parts.registry.read(wanted.documents)
        change = Change(lambda _held: incoming, author, wanted.message, wanted.expected_with(request))
        return await self._change(request, change, wanted.plan)

    async def patch(self, request: web.Request) -> web.Response:
        author = require(request, Role.EDITOR)
        wanted = await _wanted(request)
        incoming = await self._parts.registry.read(wanted.documents)
        expected = wanted.expected_with(request)
        change = Change(lambda held: upserted(held, incoming), author, wanted.message, expected)
        return await self._change(request, change, wanted.plan)

    async def delete(self, request: web.Request) -> web.Response:
        author = require(request, Role.EDITOR)
        named = request.match_info
        kind, namespace, name = named["kind"], named["namespace"], named["name"]
        message = message_of(request.query.get("message", ""))
        expected = expected_by(request)
        change = Change(lambda held: removed(held, kind, namespace, name), author, message, expected)
        return await self._change(request, change)

    async def rollback(self, request: web.Request) -> web.Response:
        author = require(request, Role.EDITOR)
        revision = await self._revision(request)
        before = await self._parts.registry.read(revision.documents)
        message = message_of(request.query.get("message", "")) or f"roll back to revision {revision.number}"
        return await self._change(
            request, Change(lambda _held: before, author, message, expected_by(request))
        )

    async def list(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        limit = int(_number(request, "limit", 50, 1, 1000))
        before = int(_number(request, "before", MAX_NUMBER, 1, MAX_NUMBER))
        found = await self._parts.store.history(limit + 1, before)
        pinned = await self._parts.store.pinned()
        summaries = [
            {
                "revision": r.number,
                "created": r.created.isoformat(),
                "author": r.author,
                "message": r.message,
                "documents": len(r.documents),
                "pinned": r.number in pinned,
            }
            for r in found[:limit]
        ]
        following = summaries[-1]["revision"] if len(found) > limit else None
        return web.json_response({"revisions": summaries, "next": following})

    async def pin(self, request: web.Request) -> web.Response:
        return await self._pin(request, self._parts.store.pin, "revision-pinned")

    async def unpin(self, request: web.Request) -> web.Response:
        return await self._pin(request, self._parts.store.unpin, "revision-unpinned")

    async def _pin(
        self, request: web.Request, set_pin: Callable[[int], Awaitable[None]], event: str
    ) -> web.Response:
        author, number = require(request, Role.EDITOR), _revision_number(request)
        await set_pin(number)
        await self._parts.audit.write(event, author=author, revision=number)
        return web.json_response({"revision": number, "pinned": event == "revision-pinned"})

    async def show_revision(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        revision = await self._revision(request)
        return tagged(request, revision.number, _printed(revision))

    async def wait(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        number = _revision_number(request)
        newest = self._parts.registry.revision.number
        if number > newest:
            raise NotFound(f"revision {number} does not exist; the newest is {newest}")
        timeout_s = _number(request, "timeout_s", DEFAULT_WAIT_S, 0, MAX_WAIT_S)
        begin = time.monotonic()
        behind, elsewhere = await asyncio.gather(
            self._parts.distribution.wait_enforced(number, timeout_s),
            self._elsewhere(request, number, timeout_s),
        )
        waiting = [{"service": str(s.service), "task": s.task, "reason": s.reason} for s in behind]
        waiting += elsewhere
        return web.json_response(
            {
                "revision": number,
                "enforced": not waiting,
                "waited_ms": round((time.monotonic() - begin) * 1000, 1),
                "waiting_for": waiting,
            }
        )

    async def _elsewhere(
        self, request: web.Request, number: int, timeout_s: float
    ) -> Sequence[dict[str, str]]:
        """Whom the other replicas wait for; one that has not read the revision yet is asked again."""
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            path = f"/v1/revisions/{number}/wait?timeout_s={left_s:.3f}"
            told = await self._parts.siblings.ask(request, path, timeout_s=left_s + ANSWER_S)
            waiting = [each for answer in told.answers for each in answer["waiting_for"]]
            silent = [*told.silent, *(f"{each}: has not read it" for each in told.ignorant)]
            if not silent or time.monotonic() + AGAIN_S > deadline:
                name = str(CONTROL_PLANE)
                return [*waiting, *({"service": name, "task": "", "reason": each} for each in silent)]
            await asyncio.sleep(AGAIN_S)

    async def _revision(self, request: web.Request) -> Revision:
        number = _revision_number(request)
        found = await self._parts.store.get(number)
        if found is None:
            raise NotFound(f"there is no revision {number}")
        return found

    async def _change(self, request: web.Request, change: Change, plan: Plan | None = None) -> web.Response:
        dry_run = flag(request, "dry_run")
        try:
            if plan is not None and not dry_run:
                applied = await self._parts.rollouts.begin(change, plan)
            else:
                applied = await self._parts.registry.change(change, dry_run=dry_run)
        except Conflict as error:
            if expected_by(request) not in (None, self._parts.registry.revision.number):
                raise PreconditionFailed(error.expected, error.newest) from error
            raise
        if not dry_run:
            how = f"{request.method} {request.path}"
            await self._parts.audit.write(
                "policies", author=change.author, revision=applied.revision, how=how, message=change.message
            )
        answer = _applied(applied, dry_run=dry_run)
        if dry_run or plan is not None:
            return web.json_response(answer)
        return tagged(request, applied.revision, answer)


def _applied(applied: Applied, *, dry_run: bool) -> dict[str, Any]:
    return {
        "revision": applied.revision,
        "dry_run": dry_run,
        "changed_services": len(applied.changed),
        "warnings": [warning.to_json() for warning in applied.warnings],
    }


def _printed(revision: Revision) -> dict[str, Any]:
    documents = [
        {"name": d.name, "text": d.text, "namespace": d.namespace, "line": d.line} for d in revision.documents
    ]
    return {
        "revision": revision.number,
        "created": revision.created.isoformat(),
        "author": revision.author,
        "message": revision.message,
        "documents": documents,
    }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The body of a change."""

    documents: Sequence[Document]
    message: str
    expected: int | None
    plan: Plan | None

    def expected_with(self, request: web.Request) -> int | None:
        """What the body expects, or the `If-Match` of its request.

        Raises:
            BadRequest: both are there and differ.
        """
        tag = expected_by(request)
        if tag is not None and self.expected not in (None, tag):
            raise BadRequest("`If-Match` and `expected_revision` expect two different revisions")
        return self.expected if tag is None else tag


async def _wanted(request: web.Request) -> _Wanted:
    body = await json_body(request, MAX_BODY)
    check_members(body, *DOCUMENTS["properties"])
    namespace = member(body, "default_namespace", str, "default")
    expected = member(body, "expected_revision", int, None)
    items = member(body, "documents", list)
    if len(items) > MAX_DOCUMENTS:
        raise BadRequest(f"at most {MAX_DOCUMENTS} documents are taken")
    message = message_of(member(body, "message", str, ""))
    rollout = member(body, "rollout", dict, None)
    plan = parse_plan(rollout) if rollout is not None else None
    return _Wanted([_document(item, namespace) for item in items], message, expected, plan)


def message_of(text: str) -> str:
    """A message as it is kept.

    Raises:
        BadRequest: it is too long, or has control characters.
    """
    if not is_prose(text, MAX_MESSAGE):
        raise BadRequest(f"a message is text of at most {MAX_MESSAGE} characters, without control characters")
    return text.strip()


def _document(item: object, namespace: str) -> Document:
    if not isinstance(item, dict):
        raise BadRequest('a document is {"name": …, "text": …}')
    check_members(item, "name", "text", "namespace")
    name = member(item, "name", str)
    if not is_line(name, 1, MAX_NAME):
        raise BadRequest(f"a document's name is one line of 1 to {MAX_NAME} characters")
    return Document(name, member(item, "text", str), member(item, "namespace", str, namespace) or namespace)


def _revision_number(request: web.Request) -> int:
    text = request.match_info["number"]
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise BadRequest("a revision is a whole number")
    return int(text)


def _number(request: web.Request, name: str, default: float, low: float, high: float) -> float:
    try:
        value = float(request.query.get(name, default))
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise BadRequest(f"`{name}` is a number from {low:g} to {high:g}")
    return value
