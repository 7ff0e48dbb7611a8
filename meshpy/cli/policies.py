"""`meshpy apply`, `get`, `delete` and `status`: what is in force, and who has it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from meshpy.cli.output import ask_format, duration_s, print_json, print_table
from meshpy.cli.progress import waiting
from meshpy.cli.rollout import current, follow, show
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError, Place
from meshpy.policy import Document, load_documents

__all__ = ["apply", "delete", "get", "named", "policy_texts", "status", "wait_until_enforced"]

NAMESPACE = click.option(
    "-n", "--namespace", default="default", show_default=True, help="Of documents that name none."
)


MESSAGE = click.option("-m", "--message", default="", help="Why, for `meshpy history`.")


def policy_texts(paths: Sequence[Path]) -> list[dict[str, str]]:
    """All policy files of files and folders, as the operator API takes them; `-` is standard input.

    Raises:
        MeshpyError: a path does not exist, or a folder holds no YAML.
    """
    texts = []
    for path in paths:
        if str(path) == "-":
            texts.append({"name": "-", "text": sys.stdin.read()})
            continue
        files = sorted(found for found in path.rglob("*") if found.suffix in (".yaml", ".yml"))
        if path.is_file():
            files = [path]
        if not files:
            why = "the folder has no .yaml or .yml file" if path.is_dir() else "there is no such file"
            raise MeshpyError(f"{path}: {why}")
        if path.suffix == ".json" and path.is_file():
            texts += _saved(path)
            continue
        texts += [{"name": str(file), "text": file.read_text()} for file in files]
    return texts


def _saved(path: Path) -> list[dict[str, str]]:
    """What `meshpy get -o json` printed, each document in the namespace that it had.

    Raises:
        MeshpyError: it is something else.
    """
    try:
        return [
            {
                "name": f"{path}:{each['kind']}/{each['name']}",
                "text": each["text"],
                "namespace": each["namespace"],
            }
            for each in json.loads(path.read_text())["documents"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise MeshpyError(f"{path}: is not what `meshpy get -o json` prints; policies are YAML") from error


@click.command()
@click.option(
    "-f",
    "--filename",
    "files",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="A file or folder of policies, or what `get -o json` printed; repeatable; `-` is standard input.",
)
@NAMESPACE
@MESSAGE
@click.option("--dry-run", is_flag=True, help="Check, tell what would change, and change nothing.")
@click.option("--diff/--no-diff", "tell", default=True, help="Tell first which requests it changes.")
@click.option("--staged", is_flag=True, help="Judge and count by them, decide nothing.")
@click.option("--canary", metavar="N|P%", help="First on N, or P percent, of each service's sidecars.")
@click.option("--watch", type=duration_s, metavar="TIME", help="Watch it; roll back when a bound is crossed.")
@click.option("--max-denied", type=float, default=5, show_default=True, help="Percent points.")
@click.option("--max-errors", type=float, default=5, show_default=True, help="Percent points of 5xx.")
@click.option("--hold", is_flag=True, help="Keep the canary until `meshpy rollout promote`.")
@click.option("--prune", is_flag=True, help="Remove every policy that is not in these files.")
@click.option("--wait/--no-wait", default=True, help="Wait until every sidecar has it.")
@ask_format
def apply(
    files: Sequence[Path],
    namespace: str,
    message: str,
    dry_run: bool,
    tell: bool,
    staged: bool,
    prune: bool,
    wait: bool,
    output: str,
    **careful: Any,
) -> None:
    """Put policies in force, all of them or none.

    \b
    Examples:
      meshpy apply -f policies/
      meshpy apply -f policies/ -m "close the back office" --watch 2m
      meshpy apply -f policies/ --canary 25% --watch 5m --max-denied 1
      meshpy apply -f policies/ --staged
      cat policy.yaml | meshpy apply -f - -n shop
      meshpy get -o json > policies.json; meshpy apply --prune -f policies.json      # a backup, and back
    """
    operator = Operator(Context.load())
    plan = _plan(**careful)
    body: dict[str, Any] = {
        "documents": _staged(policy_texts(files), prune=prune) if staged else policy_texts(files),
        "default_namespace": namespace,
        "message": message,
    }
    if plan is not None:
        body["rollout"] = plan
    query = "?dry_run=true" if dry_run else ""
    changes = _tell(operator, body["documents"], namespace, prune=prune, output=output) if tell else None
    answer = operator.call("PUT" if prune else "PATCH", f"/v1/policies{query}", body)
    if changes is not None:
        answer["diff"] = changes
    for warning in answer.get("warnings", []):
        click.echo(f"warning: {warning['file']}:{warning['line']}: {warning['message']}", err=True)
    if plan is not None and not dry_run:
        _finish_rollout(operator, answer, output, wait=wait)
        return
    if wait and not dry_run:
        answer["enforced"] = wait_until_enforced(operator, answer["revision"])
    if output == "json":
        print_json(answer)
    elif dry_run:
        click.echo("the documents are right; nothing was applied")
    else:
        where = (
            "on every sidecar" if answer.get("enforced") else "not yet on every sidecar, see `meshpy status`"
        )
        click.echo(f"revision {answer['revision']} is in force {where if wait else ''}".rstrip())


def _staged(texts: Sequence[Mapping[str, str]], *, prune: bool) -> list[dict[str, str]]:
    from meshpy.cli.staged import staged_texts  # noqa: PLC0415 - brings the YAML editor

    if prune:
        raise click.UsageError("--staged keeps what decides now; it does not go with --prune")
    return staged_texts(texts)


def _tell(
    operator: Operator, texts: Sequence[Mapping[str, str]], namespace: str, *, prune: bool, output: str
) -> dict[str, Any]:
    """The exact diff against what is in force, for people on standard error."""
    from meshpy.cli.live import applied_diff  # noqa: PLC0415 - the analysis is wanted by `apply` alone
    from meshpy.cli.policy_diff import print_diff  # noqa: PLC0415

    found = applied_diff(operator, texts, namespace, prune=prune)
    if output != "json":
        print_diff(found, err=True)
    return found.to_json()


def _plan(
    canary: str | None, watch: float | None, max_denied: float, max_errors: float, hold: bool
) -> dict[str, Any] | None:
    """The member `rollout` of the request; None for a change that is just applied."""
    if canary is None and watch is None:
        if hold:
            raise click.UsageError("--hold goes with --canary")
        return None
    plan = {"canary": canary, "max_denied_pct": max_denied, "max_error_pct": max_errors, "hold": hold}
    return plan if watch is None else {**plan, "watch_s": watch}


def _finish_rollout(operator: Operator, answer: Mapping[str, Any], output: str, *, wait: bool) -> None:
    state = follow(operator) if wait else current(operator)
    if output == "json":
        print_json({**answer, "rollout": state})
    else:
        show(state)
    if state["phase"] in ("ROLLED_BACK", "ABORTED"):
        sys.exit(1)


def wait_until_enforced(operator: Operator, revision: int, within_s: float = 15.0) -> bool:
    """Whether every connected sidecar decides by `revision`, after waiting for that."""
    with waiting("waiting for every sidecar"):
        answer = operator.call("GET", f"/v1/revisions/{revision}/wait?timeout_s={within_s:g}")
    return bool(answer["enforced"])


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("-n", "--namespace", help="Only of this namespace.")
@click.option("--revision", type=click.IntRange(min=0), help="Of an earlier revision.")
@ask_format
def get(kind: str | None, name: str | None, namespace: str | None, revision: int | None, output: str) -> None:
    """List the policies in force, or print one as it was applied (-o json: with their text).

    \b
    Examples:
      meshpy get
      meshpy get AuthorizationPolicy deny-admin -n shop
      meshpy get --revision 7 -o yaml
    """
    kind = None if kind is None else _kind(kind)
    path = "/v1/policies" if revision is None else f"/v1/revisions/{revision}"
    answer = Operator(Context.load()).call("GET", path)
    found = [
        document
        for document in named(answer["documents"])
        if (kind is None or document.kind == kind)
        and (name is None or document.name == name)
        and (namespace is None or document.namespace == namespace)
    ]
    if kind and name and not found:
        raise MeshpyError(f"there is no {kind} {name}; see `meshpy get`")
    if output == "json":
        print_json({"revision": answer["revision"], "documents": [_printed(each) for each in found]})
    elif kind and name:
        click.echo("---\n".join(document.text for document in found))
    else:
        rows = [(each.kind, each.namespace, each.name, f"{each.file}:{each.line}") for each in found]
        print_table(("KIND", "NAMESPACE", "NAME", "FILE"), rows)


def _kind(text: str) -> str:
    """A kind as documents write it, of one in any case.

    Raises:
        MeshpyError: there is none, with the nearest.
    """
    from meshpy.policy.reader import suggestion  # noqa: PLC0415 - `status` and `apply` go without
    from meshpy.policy.schema import kinds  # noqa: PLC0415

    known = {name.partition(".")[0].lower(): name.partition(".")[0] for name in kinds()}
    if text.lower() not in known:
        raise MeshpyError(f"there is no kind {text!r}; {suggestion(text, tuple(known.values()))}")
    return known[text.lower()]


def named(documents: Sequence[Mapping[str, Any]]) -> tuple[Document, ...]:
    """The documents of `GET /v1/policies` with their identities, which are read from the texts."""
    return load_documents(
        Document("", each["namespace"], "", each["text"], each["name"], Place(each["name"]), each["line"])
        for each in documents
    ).documents


def _printed(document: Document) -> Mapping[str, Any]:
    return {
        "kind": document.kind,
        "namespace": document.namespace,
        "name": document.name,
        "file": document.file,
        "line": document.line,
        "text": document.text,
    }


@click.command()
@click.argument("kind")
@click.argument("name")
@NAMESPACE
@MESSAGE
@ask_format
def delete(kind: str, name: str, namespace: str, message: str, output: str) -> None:
    """Take one policy out of force.

    \b
    Example:
      meshpy delete AuthorizationPolicy deny-admin -n shop -m "the back office moved"
    """
    kind = _kind(kind)
    path = f"/v1/policies/{quote(kind)}/{quote(namespace)}/{quote(name)}?message={quote(message)}"
    answer = Operator(Context.load()).call("DELETE", path)
    if output == "json":
        print_json(answer)
    else:
        click.echo(f"{kind} {namespace}/{name} is deleted; revision {answer['revision']}")


@click.command()
@ask_format
def status(output: str) -> None:
    """Show services, sidecars, their state and who calls whom. Exit 1 when a sidecar is not in sync.

    \b
    Examples:
      meshpy status
      meshpy status -o json
    """
    answer = Operator(Context.load()).call("GET", "/v1/status")
    if output == "json":
        print_json(answer)
    else:
        _print_status(answer)
    if any(sidecar["state"] != "SYNCED" for sidecar in answer["sidecars"]):
        sys.exit(1)


def _print_status(answer: Mapping[str, Any]) -> None:
    click.echo(f"policy revision {answer['revision']}")
    services = [(s["name"], str(s["endpoints"]), s["exempt"] or "meshed") for s in answer["services"]]
    print_table(("SERVICE", "ENDPOINTS", "MESH"), services)
    sidecars = [
        (s["service"], s["task"], s["node"], s["state"], s["held"] or "-", s["reason"] or "")
        for s in answer["sidecars"]
    ]
    print_table(("SIDECAR", "TASK", "NODE", "STATE", "VERSION", "REASON"), sidecars)
    edges = [
        (
            e["source"],
            e["destination"],
            f"{e['rps']:.1f}",
            f"{e['success_ratio']:.2%}",
            "-" if e["p50_ms"] is None else f"{e['p50_ms']:.1f}",
            "-" if e["p99_ms"] is None else f"{e['p99_ms']:.1f}",
            "√" if e["mtls_ratio"] == 1 else f"{e['mtls_ratio']:.0%}",
            str(sum(e["denied"].values())),
        )
        for e in answer["edges"]
    ]
    print_table(("FROM", "TO", "RPS", "SUCCESS", "P50 MS", "P99 MS", "MTLS", "DENIED"), edges)
