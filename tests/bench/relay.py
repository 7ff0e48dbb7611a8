"""The floor: a uvloop process that joins connections and understands nothing. `relay.py SPEC.json`.

What it costs is the kernel's, the loop's and the TLS library's price for the same bytes: no proxy on this
loop can cost less. SPEC.json is a list of {port, to, server_tls, client_tls}; the TLS values are identity
folders or null.
"""

import asyncio
import json
import ssl
import sys
from pathlib import Path

import uvloop


class End(asyncio.Protocol):
    """One end of a pair."""

    def __init__(self):
        self.other = None
        self.early = []

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if self.other is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, _error):
        if self.other is not None:
            self.other.transport.close()


class Door(End):
    """The accepted end."""

    def __init__(self, to, tls):
        super().__init__()
        self.to, self.tls = to, tls

    def connection_made(self, transport):
        super().connection_made(transport)
        self.task = asyncio.get_running_loop().create_task(self.join())

    async def join(self):
        _, end = await asyncio.get_running_loop().create_connection(
            End, "127.0.0.1", self.to, ssl=self.tls, server_hostname="peer" if self.tls else None
        )
        end.other, self.other = self, end
        if self.early:
            end.transport.write(b"".join(self.early))


def context(identity, side):
    if identity is None:
        return None
    made = ssl.SSLContext(side)
    made.check_hostname = False
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_cert_chain(f"{identity}/tls.crt", f"{identity}/tls.key")
    made.load_verify_locations(f"{identity}/ca.crt")
    made.verify_mode = ssl.CERT_REQUIRED
    made.set_alpn_protocols(["http/1.1"])
    if side is ssl.PROTOCOL_TLS_SERVER:
        made.num_tickets = 0
    return made


async def main(spec):
    loop = asyncio.get_running_loop()
    bytearray(1 << 20)  # as the sidecar does: else each read of TLS is a mapping of 256 KiB from the kernel
    for each in spec:
        client = context(each["client_tls"], ssl.PROTOCOL_TLS_CLIENT)
        await loop.create_server(
            lambda to=each["to"], tls=client: Door(to, tls),
            "127.0.0.1",
            each["port"],
            ssl=context(each["server_tls"], ssl.PROTOCOL_TLS_SERVER),
        )
    await loop.create_future()


if __name__ == "__main__":
    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text())))
