"""What of a request consistent hashing goes by, and the cookie that makes a client keep to its endpoint."""

from __future__ import annotations

from urllib.parse import unquote_plus

from meshpy.model.resilience import ConsistentHash, HashBy
from proxy.decide.hashing import hash64
from proxy.http.head import RequestHead

__all__ = ["key_of", "made_cookie", "wants_cookie"]


def key_of(policy: ConsistentHash, head: RequestHead, peer_address: str) -> int | None:
    """The key of a request; None when it has none, and any endpoint will do.

    Args:
        peer_address: of whoever opened the connection: the app, or a client at an edge.
    """
    value: bytes | None
    match policy.by:
        case HashBy.HEADER:
            value = b",".join(head.get_all(policy.name.encode("latin-1")))
        case HashBy.COOKIE:
            value = _cookie(head, policy.name.encode("latin-1"))
        case HashBy.QUERY:
            value = _parameter(head.query, policy.name)
        case HashBy.SOURCE_IP:
            value = peer_address.encode("ascii", "replace")
    return hash64(value) if value else None


def wants_cookie(policy: ConsistentHash) -> bool:
    """Whether a client without the cookie is given one."""
    return policy.by is HashBy.COOKIE and policy.ttl_s is not None


def made_cookie(policy: ConsistentHash, value: str) -> tuple[bytes, int]:
    """The value of a `set-cookie` field for a client that has none, and the key that it will bring."""
    parts = [f"{policy.name}={value}"]
    if policy.ttl_s:
        parts.append(f"Max-Age={int(policy.ttl_s)}")
    if policy.path:
        parts.append(f"Path={policy.path}")
    parts += [f"{name}={text}" if text else name for name, text in policy.attributes]
    if not any(name.lower() == "httponly" for name, _ in policy.attributes):
        parts.append("HttpOnly")
    return "; ".join(parts).encode("latin-1"), hash64(value.encode("latin-1"))


def _cookie(head: RequestHead, name: bytes) -> bytes | None:
    for field in head.get_all(b"cookie"):
        for pair in field.split(b";"):
            key, mark, value = pair.strip().partition(b"=")
            if mark and key == name:
                return value.strip(b'"')
    return None


def _parameter(query: str, name: str) -> bytes | None:
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key == name or ("%" in key and unquote_plus(key) == name):
            return value.encode("latin-1", "replace")
    return None
