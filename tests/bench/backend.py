"""The app behind the proxies: 1 KiB for every request, as cheaply as Python can. `backend.py PORT`."""

import asyncio
import sys

import uvloop

BODY = b"x" * 1024
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + BODY


class Backend(asyncio.Protocol):
    """One connection; requests are GETs without a body, so a blank line ends one."""

    def connection_made(self, transport):
        self.transport = transport
        self.rest = b""

    def data_received(self, data):
        heads = (self.rest + data).split(b"\r\n\r\n")
        self.rest = heads.pop()
        if heads:
            self.transport.write(ANSWER * len(heads))


async def main(port):
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
