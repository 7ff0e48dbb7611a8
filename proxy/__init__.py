"""The sidecar: `net/` opens sockets, `http/` parses, `decide/` chooses; the rest is what a request meets."""

from proxy.compiled import prefer

is_compiled = prefer()
"""Whether the hot modules run compiled."""
