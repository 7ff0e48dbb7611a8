"""`meshpy token`: tokens of operators, for people and for CI."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from meshpy.cli.groups import Group
from meshpy.cli.output import ask_format, duration_s, print_json, print_table
from meshpy.client import Context, Operator

__all__ = ["token"]

PATH = "/v1/operator-tokens"


@click.group(cls=Group)
def token() -> None:
    """Make, list and revoke tokens of operators. Needs the role admin.

    \b
    Examples:
      meshpy token create grafana --role viewer
      meshpy token create ci --role editor --ttl 720h
      meshpy token revoke 3f2a9c1d7e5b4a60
    """


@token.command()
@click.argument("name")
@click.option(
    "--role", type=click.Choice(["viewer", "editor", "admin"]), required=True, help="What it may do."
)
@click.option(
    "--ttl", type=duration_s, metavar="TIME", default="2160h", show_default=True, help="How long it is good."
)
@ask_format
def create(name: str, role: str, ttl: float, output: str) -> None:
    """Make a token for NAME and print it, this once.

    \b
    Examples:
      meshpy token create grafana --role viewer
      meshpy token create ci --role editor --ttl 720h
    """
    answer: dict[str, Any] = Operator(Context.load()).call(
        "POST", PATH, {"name": name, "role": role, "ttl_s": int(ttl)}
    )
    if output == "json":
        print_json(answer)
        return
    click.echo(f"token {answer['id']} of a {role}, until {answer['expires'][:19]}:", err=True)
    click.echo(answer["token"])


@token.command("list")
@ask_format
def list_tokens(output: str) -> None:
    """List the tokens that are good; those of the token file are not among them.

    \b
    Example:
      meshpy token list
    """
    answer: dict[str, Any] = Operator(Context.load()).call("GET", PATH)
    if output == "json":
        print_json(answer)
        return
    rows = [(e["id"], e["name"], e["role"], e["created"][:19], e["expires"][:19]) for e in answer["tokens"]]
    print_table(("ID", "NAME", "ROLE", "CREATED", "EXPIRES"), rows)


@token.command()
@click.argument("ident", metavar="ID")
@ask_format
def revoke(ident: str, output: str) -> None:
    """Refuse the token ID from now on.

    \b
    Example:
      meshpy token revoke 3f2a9c1d7e5b4a60
    """
    Operator(Context.load()).call("DELETE", f"{PATH}/{quote(ident, safe='')}")
    if output == "json":
        print_json({"revoked": ident})
    else:
        click.echo(f"token {ident} is revoked")
