"""A parsed head as the decision engine sees it; header text is decoded only for a rule that asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from meshpy.engine.request import Request
from proxy.http.head import RequestHead

__all__ = ["HeaderView", "as_request"]


class HeaderView(Mapping[str, list[str]]):
    """Lower-case name → every value received under it, read from the head on demand."""

    __slots__ = ("_head",)

    def __init__(self, head: RequestHead) -> None:
        self._head = head

    def __getitem__(self, name: str) -> list[str]:
        values = self._head.get_all(name.encode("latin-1", "replace"))
        if not values:
            raise KeyError(name)
        return [value.decode("latin-1") for value in values]

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._head.fields)

    def __len__(self) -> int:
        return len(self._head.fields)


def as_request(head: RequestHead) -> Request:
    """The request that policy judges: its path is the one that is forwarded."""
    return Request(head.method, head.path, head.query, head.authority.text, "http", HeaderView(head))
