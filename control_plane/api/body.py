"""Request bodies: bounded, timed, and read as strict JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from aiohttp import web

from control_plane.errors import BadRequest, TooLarge

__all__ = ["check_members", "json_body", "member", "read_json"]

READ_S = 30.0


async def json_body(request: web.Request, max_bytes: int) -> dict[str, Any]:
    """The object that a request carries.

    Raises:
        TooLarge: more than `max_bytes`; the rest is not read.
        BadRequest: another type of content, or no strict JSON object.
        TimeoutError: it did not come within 30 s.
    """
    if request.content_type != "application/json":
        raise BadRequest("the body must be application/json")
    if (request.content_length or 0) > max_bytes:
        raise TooLarge(f"at most {max_bytes} bytes are taken")
    data = bytearray()
    async with asyncio.timeout(READ_S):
        async for chunk in request.content.iter_any():
            data += chunk
            if len(data) > max_bytes:
                raise TooLarge(f"at most {max_bytes} bytes are taken")
    body = read_json(bytes(data))
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def read_json(data: bytes) -> Any:
    """Parse JSON as RFC 8259 has it: no NaN, no duplicate names, no depth that breaks the parser.

    Raises:
        BadRequest: it is anything else.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise BadRequest("the JSON is nested too deep") from None
    except ValueError as error:
        raise BadRequest(f"this is no JSON: {str(error)[:200]}") from None


def member(body: dict[str, Any], name: str, kind: type, default: Any = ...) -> Any:
    """One member of a body; a missing one is its default.

    Raises:
        BadRequest: it is missing without a default, or of another type.
    """
    value = body.get(name, default)
    if value is ...:
        raise BadRequest(f"`{name}` is missing")
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # JSON has one kind of number: 7.0 is a whole one
    if value is not default and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise BadRequest(f"`{name}` must be of type {kind.__name__}")
    return value


def check_members(body: dict[str, Any], *known: str) -> None:
    """Nothing, when an object has no other members than these.

    Raises:
        BadRequest: it has; what is not understood is not passed over.
    """
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise BadRequest(f"{unknown[0][:100]!r} is not known here; known are {', '.join(known) or 'none'}")


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice in one object")
    return found
