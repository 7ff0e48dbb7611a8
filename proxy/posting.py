"""One request to the control plane, on a connection of its own."""

from __future__ import annotations

import json

import h11

from meshpy.errors import MeshpyError
from proxy.replicas import Link

__all__ = ["PostingError", "post"]

_READ_BYTES = 64 * 1024
_MAX_ANSWER = 4 * 1024 * 1024


class PostingError(MeshpyError):
    """What came back is no answer."""


async def post(link: Link, host: str, path: str, body: object) -> tuple[int, str]:
    """Send JSON; status and text of the answer.

    Raises:
        PostingError: it is no HTTP, is cut, or is too long.
        OSError: the connection broke.
        UnicodeError: it is no UTF-8.
    """
    reader, writer = link
    content = json.dumps(body).encode()
    head = h11.Request(
        method="POST",
        target=path,
        headers=[
            ("Host", host),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(content))),
            ("Connection", "close"),
        ],
    )
    speech = h11.Connection(h11.CLIENT)
    for event in (head, h11.Data(content), h11.EndOfMessage()):
        writer.write(speech.send(event) or b"")
    await writer.drain()
    status, answer = 0, bytearray()
    try:
        while True:
            heard = speech.next_event()
            if heard is h11.NEED_DATA:
                speech.receive_data(await reader.read(_READ_BYTES))
            elif isinstance(heard, h11.Response):
                status = heard.status_code
            elif isinstance(heard, h11.Data):
                answer += heard.data
                if len(answer) > _MAX_ANSWER:
                    raise PostingError(f"the control plane's answer has more than {_MAX_ANSWER} bytes")
            elif not isinstance(heard, h11.InformationalResponse):
                return status, answer.decode()
    except h11.RemoteProtocolError as error:
        raise PostingError(f"the control plane's answer is no HTTP: {error}") from error
