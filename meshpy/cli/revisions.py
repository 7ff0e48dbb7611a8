"""`meshpy history` and `meshpy rollback`: what was in force, what each change changed, and the way back."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from meshpy.cli.output import ask_format, print_json, print_table
from meshpy.cli.policies import named, wait_until_enforced
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from meshpy.policy import Document

__all__ = ["history", "pin", "rollback"]

Identity = tuple[str, str, str]


@click.command()
@click.argument("revision", type=click.IntRange(min=1), required=False)
@click.option(
    "-l", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many revisions."
)
@ask_format
def history(revision: int | None, limit: int, output: str) -> None:
    """List the revisions of the policy set, newest first; or show what one of them changed.

    \b
    Examples:
      meshpy history
      meshpy history 7
    """
    operator = Operator(Context.load())
    if revision is not None:
        _show_change(operator, revision, output)
        return
    revisions = operator.call("GET", f"/v1/revisions?limit={limit}")["revisions"]
    if output == "json":
        print_json({"revisions": revisions})
        return
    rows = [
        (
            str(each["revision"]),
            each["created"][:19],
            each["author"],
            str(each["documents"]),
            ("pinned: " if each["pinned"] else "") + (each["message"].partition("\n")[0] or "-"),
        )
        for each in revisions
    ]
    print_table(("REVISION", "CREATED", "AUTHOR", "POLICIES", "MESSAGE"), rows)


@click.command()
@click.argument("revision", type=click.IntRange(min=1))
@click.option("--release", is_flag=True, help="Let it go again.")
@ask_format
def pin(revision: int, release: bool, output: str) -> None:
    """Keep a revision however many come after it; the Swarm's Raft drops all but the last 50 and pinned ones.

    \b
    Examples:
      meshpy pin 7
      meshpy pin 7 --release
    """
    Operator(Context.load()).call("DELETE" if release else "PUT", f"/v1/revisions/{revision}/pin")
    if output == "json":
        print_json({"revision": revision, "pinned": not release})
    else:
        click.echo(f"revision {revision} is {'pinned no more' if release else 'pinned'}")


def _show_change(operator: Operator, number: int, output: str) -> None:
    new = operator.call("GET", f"/v1/revisions/{number}")
    old = operator.call("GET", f"/v1/revisions/{number - 1}")
    changes = list(changed(_by_identity(old["documents"]), _by_identity(new["documents"])))
    about = {key: new[key] for key in ("revision", "created", "author", "message")}
    if output == "json":
        print_json({**about, "changes": changes})
        return
    click.echo(f"revision {number}, {new['created'][:19]}, {new['author']}")
    if new["message"]:
        click.echo("\n".join(f"    {line}" for line in new["message"].splitlines()))
    for change in changes:
        click.echo(f"\n{change['change']} {change['policy']}")
        click.echo("\n".join(f"  {line}" for line in change["lines"]))
    if not changes:
        click.echo("nothing changed")


def changed(old: Mapping[Identity, Document], new: Mapping[Identity, Document]) -> Iterator[dict[str, Any]]:
    """Each policy that differs, in order of its name: added, removed or changed, with a unified diff."""
    for identity in sorted(old.keys() | new.keys()):
        before, after = _lines(old.get(identity)), _lines(new.get(identity))
        if before == after:
            continue
        word = "added" if identity not in old else "removed" if identity not in new else "changed"
        kind, namespace, name = identity
        lines = list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]
        yield {"change": word, "policy": f"{kind} {namespace}/{name}".replace(" /", " "), "lines": lines}


def _lines(document: Document | None) -> list[str]:
    return document.text.strip().splitlines() if document is not None else []


def _by_identity(documents: Sequence[Mapping[str, Any]]) -> dict[Identity, Document]:
    return {document.identity: document for document in named(documents)}


@click.command()
@click.argument("revision", type=click.IntRange(min=0), required=False)
@click.option("-m", "--message", default="", help="Why, for `meshpy history`.")
@click.option("--wait/--no-wait", default=True, help="Wait until every sidecar has it.")
@ask_format
def rollback(revision: int | None, message: str, wait: bool, output: str) -> None:
    """Put an earlier revision in force again, as a new one; without a number the one before the newest.

    \b
    Examples:
      meshpy rollback -m "checkout was denied"
      meshpy rollback 7
    """
    operator = Operator(Context.load())
    if revision is None:
        newest = operator.call("GET", "/v1/policies")["revision"]
        if newest == 0:
            raise MeshpyError("there is no revision to go back from: no policy was ever applied")
        revision = int(newest) - 1
    answer = operator.call("POST", f"/v1/revisions/{revision}/rollback?message={quote(message)}")
    if wait:
        answer["enforced"] = wait_until_enforced(operator, answer["revision"])
    if output == "json":
        print_json(answer)
        return
    where = " on every sidecar" if answer.get("enforced") else ""
    click.echo(
        f"the policies of revision {revision} are in force again{where}, as revision {answer['revision']}"
    )
