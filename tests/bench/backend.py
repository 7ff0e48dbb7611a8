"""The app behind the proxies, as cheap as Python can be: `backend.py PORT TLS_PORT IDENTITY`.

1 KiB for every request, 64 KiB when the path ends in `big`. The TLS port asks for a certificate of the mesh,
as a sidecar would.
"""

import asyncio
import ssl
import sys

import uvloop


def answer(size):
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size


SMALL, BIG = answer(1024), answer(64 * 1024)


class Backend(asyncio.Protocol):
    """One connection, one request at a time, content by Content-Length."""

    def connection_made(self, transport):
        self.transport = transport
        self.head = b""
        self.missing = 0

    def data_received(self, data):
        if self.missing:
            self.missing -= len(data)
            if self.missing <= 0:
                self.missing = 0
                self.transport.write(SMALL)
            return
        self.head += data
        end = self.head.find(b"\r\n\r\n")
        if end < 0:
            return
        head, self.head = self.head, b""
        if head.startswith(b"GET"):
            self.transport.write(BIG if b"big HTTP" in head[:60] else SMALL)
            return
        lower = head[:end].lower()
        start = lower.find(b"content-length:")
        length = int(lower[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
        self.missing = end + 4 + length - len(head)
        if self.missing <= 0:
            self.missing = 0
            self.transport.write(SMALL)


def server_tls(identity):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(f"{identity}/tls.crt", f"{identity}/tls.key")
    context.load_verify_locations(f"{identity}/ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    return context


async def main(port, tls_port, identity):
    loop = asyncio.get_running_loop()
    await loop.create_server(Backend, "127.0.0.1", tls_port, ssl=server_tls(identity))
    server = await loop.create_server(Backend, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
