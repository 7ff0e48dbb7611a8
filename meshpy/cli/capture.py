"""`meshpy capture`: the plaintext side of one sidecar as a file for Wireshark."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

import click

from meshpy.cli.output import ask_format_or, duration_s, print_json
from meshpy.cli.progress import waiting
from meshpy.client import Context, Operator
from meshpy.pcapng import Packet, PcapngWriter

__all__ = ["capture"]

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}


def _size(text: str) -> int:
    found = re.fullmatch(r"([0-9]+)([km]?)", text.lower().removesuffix("b"))
    if found is None:
        raise click.BadParameter(f"{text!r} is no size; write 500k or 10m")
    return int(found[1]) * _UNITS[found[2]]


@click.command()
@click.argument("service")
@click.option(
    "-w",
    "--write",
    "file",
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="The file; `-` is standard output.",
)
@click.option("-n", "--namespace", default="default", show_default=True, help="Of a service without one.")
@click.option("--task", default="", help="Of which replica; one of them without it.")
@click.option("--for", "for_s", type=duration_s, default="10s", metavar="TIME", help="At most 10m.  [10s]")
@click.option("--max-bytes", type=_size, default="10m", metavar="SIZE", help="At most 256m.  [10m]")
@click.option("--redact", is_flag=True, help="Credentials, cookies and queries of HTTP/1.1 become x.")
@ask_format_or(help="How to print what was written; not with `-w -`.")
def capture(
    service: str,
    file: Path,
    namespace: str,
    task: str,
    for_s: float,
    max_bytes: int,
    redact: bool,
    output: str,
) -> None:
    """Write what SERVICE's sidecar reads from and writes to its app, in plaintext, as pcapng.

    Connections that are made from now on are recorded; those of the pool end first. It ends after the time,
    at the size, or by Ctrl-C. Who is at the other end of the mesh stands in the packets' comments. It needs
    the administrator's token.

    \b
    Examples:
      meshpy capture shop/api -w api.pcapng --for 30s --redact
      meshpy capture shop/api -w - | wireshark -k -i -
    """
    if output == "json" and str(file) == "-":
        raise click.UsageError("`-w -` has the capture on standard output; name a file beside `-o`")
    name = service if "/" in service else f"{namespace}/{service}"
    query = {"service": name, "task": task, "for_s": for_s, "max_bytes": max_bytes}
    query |= {"redact": "true"} if redact else {}
    lines = Operator(Context.load(), timeout_s=30).lines(f"/v1/capture?{urlencode(query)}")
    packets = size = 0
    with click.open_file(str(file), "wb") as out, waiting(f"recording {name}"):
        for packets, size in _written(lines, out):  # noqa: B007 - the last counts
            if size >= max_bytes:
                break
    if output == "json":
        print_json({"service": name, "file": str(file), "packets": packets, "bytes": size})
    else:
        click.echo(f"{packets} writes and reads, {size} bytes", err=True)


def _written(lines: Iterator[str], out: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Write what comes until its end or Ctrl-C; packets and bytes so far."""
    writer, packets, size = PcapngWriter(), 0, 0
    out.write(writer.header("meshpy capture"))
    out.flush()
    with suppress(KeyboardInterrupt):
        for line in lines:
            packet = _read(json.loads(line))
            out.write(writer.packet(packet))
            out.flush()
            packets, size = packets + 1, size + len(packet.data)
            yield packets, size


def _read(item: dict[str, Any]) -> Packet:
    return Packet(
        int(item["stream"]),
        float(item["at"]),
        (item["source"][0], int(item["source"][1])),
        (item["destination"][0], int(item["destination"][1])),
        base64.b64decode(item["data"]),
        str(item.get("comment", "")),
        int(item["offset"]) if "offset" in item else None,
    )
