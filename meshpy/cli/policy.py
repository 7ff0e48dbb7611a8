"""The group `meshpy policy`, and `meshpy policy explain`: the sidecars' own engine, without a cluster."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from meshpy.cli.claims import read_claims
from meshpy.cli.groups import LazyGroup, Target
from meshpy.cli.offline import Offline, Question, ask_any_mesh, parse_headers, read_policies, split_port
from meshpy.cli.output import ask_format, print_json, print_table
from meshpy.cli.policy_route import route_lines
from meshpy.engine.explain import Explanation, Leg
from meshpy.engine.verdict import Verdict
from meshpy.policy import load

__all__ = ["policy"]


_COMMANDS = {
    "explain": Target("meshpy.cli.policy:explain", "Say whether a request is allowed, and by which rule."),
    "blame": Target("meshpy.cli.policy_blame:blame_command", "Say which revision decided so."),
    "test": Target("meshpy.cli.policy_test:test_command", "Run tables of requests and expected verdicts."),
    "lint": Target("meshpy.cli.policy_lint:lint_command", "Find what is hardly meant, by codes MP1xx."),
    "verify": Target("meshpy.cli.policy_verify:verify_command", "Prove invariants for every request."),
    "diff": Target("meshpy.cli.policy_diff:diff_command", "Say which requests two sets treat otherwise."),
    "check": Target("meshpy.cli.policy_check:check_command", "Lint, test, verify and diff in one call."),
    "replay": Target(
        "meshpy.cli.policy_replay:replay_command", "Send recorded requests through a candidate."
    ),
    "suggest": Target(
        "meshpy.cli.policy_suggest:suggest_command", "Write least-privilege policies from traffic."
    ),
    "unused": Target("meshpy.cli.policy_unused:unused_command", "List rules that no request needed."),
    "schema": Target("meshpy.cli.policy_schema:schema", "Print the JSON Schema of a kind."),
}


@click.group(cls=LazyGroup, targets=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
def policy() -> None:
    """Explain, test, compare and prove policies, without a cluster.

    \b
    Examples:
      meshpy policy lint --stack stack.yml --policies policies/
      meshpy policy explain --stack stack.yml --policies policies/ web api GET /v1/x
      meshpy policy diff --stack stack.yml policies/ policies-new/
    """
    # a short run that makes no cycles worth collecting; looking for them costs a third of a large diff
    gc.freeze()
    gc.disable()
    click.get_current_context().call_on_close(gc.enable)


@policy.command()
@ask_any_mesh
@click.option("-H", "--header", "headers", multiple=True, help="'name: value'; repeatable.")
@click.option("--source-ip", default="", help="The caller's address, for rules on nets and ipBlocks.")
@click.option(
    "--jwt", help="Claims in JSON, a token, or a file with either; taken as signed and in its time."
)
@ask_format
@click.argument("source")
@click.argument("destination")
@click.argument("method")
@click.argument("path")
def explain(
    stack: Path | None,
    live: bool,
    policies: Sequence[Path],
    namespace: str,
    trust_domain: str,
    headers: Sequence[str],
    source_ip: str,
    jwt: str | None,
    output: str,
    source: str,
    destination: str,
    method: str,
    path: str,
) -> None:
    """Say whether SOURCE may send METHOD PATH to DESTINATION[:PORT], and which rule decides.

    SOURCE is `web`, `shop/web`, or `outside` for a caller without identity. Exit 0 allowed, 1 denied.

    \b
    Examples:
      meshpy policy explain --stack shop.yml --policies policies/ web api:8080 GET /orders
      meshpy policy explain --live --namespace shop web api:8080 GET /orders
    """
    mesh = _mesh(stack, policies, namespace, trust_domain, live=live)
    host, port = split_port(destination)
    claims = read_claims(jwt) if jwt is not None else None
    question = Question(source, host, port, method, path, parse_headers(headers), source_ip, claims)
    explanation = mesh.ask(question)
    if output == "json":
        print_json({**explanation.to_json(), "warnings": [item.to_json() for item in mesh.warnings]})
    else:
        _warn(mesh)
        _print_explanation(explanation)
    sys.exit(0 if explanation.verdict.allowed else 1)


def _mesh(
    stack: Path | None, policies: Sequence[Path], namespace: str, trust_domain: str, *, live: bool
) -> Offline:
    """The mesh of a stack file, or the one that runs: under its own policies, or under those given."""
    if live is (stack is not None):
        raise click.UsageError("write --stack FILE, or --live")
    if stack is not None:
        return Offline.read(stack, policies, namespace, trust_domain)
    from meshpy.cli.live import live_mesh  # noqa: PLC0415 - brings the API's client
    from meshpy.client import Context, Operator  # noqa: PLC0415

    candidate = load(read_policies(policies), namespace) if policies else None
    return live_mesh(Operator(Context.load()), namespace, candidate)


def _warn(mesh: Offline) -> None:
    for problem in mesh.warnings:
        click.echo(f"warning: {problem}", err=True)


def _print_explanation(explanation: Explanation) -> None:
    verdict = explanation.verdict
    click.secho(
        "allowed" if verdict.allowed else "denied", fg="green" if verdict.allowed else "red", nl=False
    )
    decided = " ".join(part for part in (verdict.policy, verdict.rule) if part)
    click.echo(f" at stage {verdict.stage}" + (f" by {decided}" if decided else ""))
    click.echo(f"  {verdict.reason}")
    if verdict.pending is not None:
        pending = verdict.pending
        word = "allowed" if pending.allowed else "denied"
        click.echo(f"  with the staged policies in force: {word}, for {pending.reason}")
    for line in route_lines(explanation.route):
        click.echo(f"  {line}")
    if len(explanation.legs) > 1:
        click.echo()
        rows = [
            (
                _reached(leg),
                f"{leg.share:.1%}",
                *_words(leg.verdict),
            )
            for leg in explanation.legs
        ]
        print_table(("DESTINATION", "SHARE", "VERDICT", "BY"), rows)
    if explanation.steps:
        click.echo()
        steps = [
            (
                step.stage,
                f"{step.policy} {step.rule}".strip() or "-",
                step.action,
                _hit(step.matched),
                step.why,
            )
            for step in explanation.steps
        ]
        print_table(("STAGE", "RULE", "ACTION", "MATCHES", "WHY"), steps)


def _reached(leg: Leg) -> str:
    """The service, or the host where no service is known."""
    return str(leg.service) if leg.service else (leg.destination.host if leg.destination else "-")


def _words(verdict: Verdict) -> tuple[str, str]:
    return (
        "allowed" if verdict.allowed else "denied",
        f"{verdict.policy} {verdict.rule}".strip() or verdict.stage,
    )


def _hit(matched: bool) -> str:
    return "yes" if matched else "no"
