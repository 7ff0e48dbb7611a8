"""`meshpy join-token`: join tokens for sidecars; those outside the Swarm are for one certificate and end."""

from __future__ import annotations

import re
from urllib.parse import quote

import click

from meshpy.cli.groups import Group
from meshpy.cli.output import ask_format, print_json, print_table
from meshpy.client import Context, Operator

__all__ = ["join_token"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.group(cls=Group)
def join_token() -> None:
    """Make, list and revoke join tokens: what a sidecar outside the Swarm gets its first certificate by.

    \b
    Examples:
      meshpy join-token create shop/api > join        # one certificate, within the hour
      meshpy join-token create shop/api --ttl 10m --address 192.0.2.7
      meshpy join-token list
      meshpy join-token revoke 5f0c9e1b2a3d4c5e
    """


def _seconds(_ctx: click.Context, _option: click.Parameter, text: str) -> int | None:
    if text == "never":
        return None
    found = re.fullmatch(r"(\d{1,7})([smhd]?)", text)
    if found is None or not 0 < int(found[1]) * _UNITS[found[2] or "s"] <= 30 * 86_400:
        raise click.BadParameter(f"{text!r} is no time: write 90s, 10m, 1h, 7d (at most 30d) or never")
    return int(found[1]) * _UNITS[found[2] or "s"]


@join_token.command()
@click.argument("service")
@click.option(
    "--ttl",
    default="1h",
    metavar="TIME",
    show_default=True,
    callback=_seconds,
    help="How long it may be used.",
)
@click.option(
    "--reusable", is_flag=True, help="For any number of certificates; on a Swarm the engine must agree."
)
@click.option("--address", default="", help="The only IP address that it may be used from.")
@ask_format
def create(service: str, ttl: int | None, reusable: bool, address: str, output: str) -> None:
    """Make a token for SERVICE (NAMESPACE/NAME) and print it; it is shown this once.

    \b
    Examples:
      meshpy join-token create shop/api > join
      meshpy join-token create shop/api --ttl 10m --address 192.0.2.7
    """
    body = {"service": service, "once": not reusable, "address": address}
    answer = Operator(Context.load()).call("POST", "/v1/join-tokens", body | ({"ttl_s": ttl} if ttl else {}))
    if output == "json":
        print_json(answer)
    else:
        click.echo(answer["token"])
        click.echo(f"id {answer['id']}, until {answer['expires'] or 'it is revoked'}", err=True)


@join_token.command(name="list")
@ask_format
def list_tokens(output: str) -> None:
    """List the tokens with what became of them.

    \b
    Example:
      meshpy join-token list
    """
    answer = Operator(Context.load()).call("GET", "/v1/join-tokens")
    if output == "json":
        print_json(answer)
        return
    rows = [
        (
            each["id"],
            each["service"] or "-",
            each["state"],
            "once" if each["once"] else "reusable",
            (each["expires"] or "never")[:19],
            each["used_by"] or "-",
            each["author"] or "-",
        )
        for each in answer["tokens"]
    ]
    print_table(("ID", "SERVICE", "STATE", "USE", "EXPIRES", "USED BY", "AUTHOR"), rows)


@join_token.command()
@click.argument("ident", metavar="ID")
@click.option("--force", is_flag=True, help="Also an ID that is not on record, should the record be lost.")
@ask_format
def revoke(ident: str, force: bool, output: str) -> None:
    """Refuse the token ID from now on, and renewals of who came in by it.

    \b
    Example:
      meshpy join-token revoke 5f0c9e1b2a3d4c5e
    """
    path = f"/v1/join-tokens/{quote(ident, safe='')}{'?force=true' if force else ''}"
    answer = Operator(Context.load()).call("DELETE", path)
    if output == "json":
        print_json(answer)
    else:
        click.echo(f"{ident} is revoked")
