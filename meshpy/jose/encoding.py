"""base64url and JSON as RFC 7515 §2 and RFC 8725 §2.4 want them: one spelling, no doubt."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

__all__ = ["decode_base64url", "encode_base64url", "strict_object"]

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


def decode_base64url(text: str) -> bytes:
    """Raises:
    ValueError: another alphabet, padding, or bits that no encoder writes.
    """
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise ValueError("is no base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("is no base64url") from None
    if encode_base64url(data) != text:
        raise ValueError("is no canonical base64url")
    return data


def encode_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("has a name twice")
    return found


def _constant(_name: str) -> Any:
    raise ValueError("has NaN or Infinity, which are no JSON")


def strict_object(data: bytes | str) -> dict[str, Any]:
    """Raises:
    ValueError: it is not exactly one JSON object in UTF-8.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant)
    except RecursionError:
        raise ValueError("is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("is no UTF-8") from None
    except json.JSONDecodeError:
        raise ValueError("is no JSON") from None
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004 - one error for all that is wrong with a text
    return value
