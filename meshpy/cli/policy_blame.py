"""`meshpy policy blame`: which revision made a request be judged as it is now."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from meshpy.cli.claims import read_claims
from meshpy.cli.live import documents_of, live_mesh
from meshpy.cli.offline import Question, parse_headers, split_port
from meshpy.cli.output import ask_format, print_json
from meshpy.client import ApiError, Context, Operator
from meshpy.engine.verdict import Verdict
from meshpy.errors import DocumentError

__all__ = ["blame_command"]

_NOT_FOUND = 404


@click.command("blame")
@click.option("-n", "--namespace", default="default", show_default=True, help="Of names that have none.")
@click.option("-H", "--header", "headers", multiple=True, help="'name: value'; repeatable.")
@click.option("--source-ip", default="", help="The caller's address, for rules on nets and ipBlocks.")
@click.option("--jwt", help="Claims in JSON, a token, or a file with either.")
@ask_format
@click.argument("source")
@click.argument("destination")
@click.argument("method")
@click.argument("path")
def blame_command(
    namespace: str,
    headers: Sequence[str],
    source_ip: str,
    jwt: str | None,
    output: str,
    source: str,
    destination: str,
    method: str,
    path: str,
) -> None:
    """Say which revision made what decides now allow or deny the request. Exit 1 when it is denied.

    The services are those of now, the policies those of each revision, from the newest back.

    \b
    Example:
      meshpy policy blame --namespace shop web api:8080 DELETE /orders
    """
    operator = Operator(Context.load())
    host, port = split_port(destination)
    claims = read_claims(jwt) if jwt is not None else None
    question = Question(source, host, port, method, path, parse_headers(headers), source_ip, claims)
    newest = operator.call("GET", "/v1/policies")
    now = _verdict(operator, newest, namespace, question)
    found, is_all_seen = newest, newest["revision"] == 0
    while found["revision"] > 0:
        earlier = _earlier(operator, found["revision"] - 1)
        if earlier is None:
            break
        before = _verdict(operator, earlier, namespace, question)
        if before is None or now is None or _decides(before) != _decides(now):
            is_all_seen = True
            break
        found, is_all_seen = earlier, earlier["revision"] == 0
    _print(now, found, output, is_exact=is_all_seen)
    sys.exit(0 if now is not None and now.allowed else 1)


def _earlier(operator: Operator, number: int) -> dict[str, Any] | None:
    """A revision; None when it is kept no longer."""
    try:
        found: dict[str, Any] = operator.call("GET", f"/v1/revisions/{number}")
    except ApiError as error:
        if error.status != _NOT_FOUND:
            raise
        return None
    return found


def _verdict(
    operator: Operator, revision: Mapping[str, Any], namespace: str, question: Question
) -> Verdict | None:
    """None when this version reads the revision's policies no more."""
    try:
        policies = documents_of(revision)
    except DocumentError:
        return None
    return live_mesh(operator, namespace, policies).ask(question).verdict


def _decides(verdict: Verdict) -> tuple[object, ...]:
    return verdict.allowed, verdict.stage, verdict.policy, verdict.rule


def _print(now: Verdict | None, found: Mapping[str, Any], output: str, *, is_exact: bool) -> None:
    about = {name: found[name] for name in ("revision", "created", "author", "message")}
    word = "allowed" if now is not None and now.allowed else "denied"
    if output == "json":
        decided = {"stage": now.stage, "policy": now.policy, "rule": now.rule} if now is not None else {}
        print_json({"allowed": word == "allowed", **decided, "since": about, "exact": is_exact})
        return
    by = f" by {now.policy} {now.rule}".rstrip() if now is not None and now.policy else ""
    click.echo(f"{word}{by}")
    if found["revision"] == 0:
        click.echo("  as before any policy was applied")
        return
    since = "since" if is_exact else "since, at the latest,"
    click.echo(f"  {since} revision {found['revision']} of {found['created'][:19]} by {found['author']}")
    if found["message"]:
        click.echo(f"  {found['message'].splitlines()[0]}")
