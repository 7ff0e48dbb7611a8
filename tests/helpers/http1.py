"""Feeding a parser in three ways and telling what it made of it."""

from __future__ import annotations

from proxy.http.events import Body, End, Refused
from proxy.http.h1 import RequestParser, ResponseParser


def values_of(head) -> dict[str, object]:
    """What a head says; not by __slots__, which a compiled class does not have."""
    names = [name for name in dir(head) if not name.startswith("_") and hasattr(head, name)]
    values = {name: getattr(head, name) for name in names}
    return {name: value for name, value in values.items() if not callable(value)}


def summarise(events) -> list[tuple]:
    """Events as plain values; content joined, so that the cut of the input does not show."""
    told: list[tuple] = []
    for event in events:
        if isinstance(event, Body):
            if told and told[-1][0] == "body":
                told[-1] = ("body", told[-1][1] + bytes(event.data))
            else:
                told.append(("body", bytes(event.data)))
        elif isinstance(event, End):
            told.append(("end", event.trailers))
        elif isinstance(event, Refused):
            told.append(("refused", event.status, event.reason))
        else:
            told.append(("head", values_of(event)))
    return told


def read_requests(pieces, **options) -> list[tuple]:
    """Every event of a client's bytes, answering each request at once."""
    parser = RequestParser(**options)
    events: list = []
    for piece in pieces:
        new = parser.feed(piece)
        while new:
            events += new
            new = parser.next_message() if isinstance(new[-1], End) else []
    events += parser.feed_eof()
    return summarise(events)


def read_response(pieces, method="GET") -> list[tuple]:
    """Every event of an upstream's bytes up to its end of file."""
    parser = ResponseParser()
    parser.begin(method)
    events: list = []
    for piece in pieces:
        events += parser.feed(piece)
    events += parser.feed_eof()
    return summarise(events)


def one_by_one(raw: bytes) -> list[bytes]:
    return [raw[at : at + 1] for at in range(len(raw))]


def halves(raw: bytes, at: int) -> list[bytes]:
    return [raw[:at], raw[at:]]
