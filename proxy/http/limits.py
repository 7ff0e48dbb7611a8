"""The bounds of one HTTP/1.1 message; Envoy's where Envoy has one."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Args:
    head_bytes: request or status line, fields and the empty line; more is answered 431 (Envoy: 60 KiB).
    fields: field lines of a head; more is answered 431 (Envoy: 100).
    target_bytes: the request target; more is answered 414.
    chunk_line_bytes: a chunk's size with its extensions, which are dropped.
    chunk_overhead_bytes: extensions of one message in all (CVE-2023-39326: tiny chunks, long extensions).
    trailer_bytes: the trailer section; its fields count like those of a head.
    interim_heads: 1xx heads before a final response.
    leading_blank_lines: empty lines before a request line (RFC 9112 §2.2 asks for at least one).
    """

    head_bytes: int = 60 * 1024
    fields: int = 100
    target_bytes: int = 8 * 1024
    chunk_line_bytes: int = 1024
    chunk_overhead_bytes: int = 16 * 1024
    trailer_bytes: int = 8 * 1024
    interim_heads: int = 8
    leading_blank_lines: int = 4


DEFAULT_LIMITS = Limits()
