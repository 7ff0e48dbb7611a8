"""`meshpy policy verify`: invariants, one a line, proved for every request or refuted by one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from meshpy.analysis.invariants import Invariant, read_invariants
from meshpy.analysis.verify import Proof, unknown_parties, verify
from meshpy.cli.formats import Finding, Level, Report, ask_report_format, print_report
from meshpy.cli.offline import Offline, ask_mesh, read_policies
from meshpy.errors import DocumentError, Problem

__all__ = ["VERIFY_RULES", "findings_of_proofs", "proofs_of", "verify_command"]

VERIFY_RULES = {
    "refuted": "An invariant does not hold; the witness is a request that breaks it.",
    "unproved": "An invariant could be neither proved nor refuted.",
}


@click.command("verify")
@ask_mesh
@ask_report_format
@click.argument("invariants", nargs=-1, required=True, type=click.Path(path_type=Path))
def verify_command(
    stack: Path,
    policies: Sequence[Path],
    namespace: str,
    trust_domain: str,
    output: str,
    invariants: Sequence[Path],
) -> None:
    """Prove invariants for every request, or refute them with one. Exit 1 when one does not hold.

    \b
    INVARIANTS are files of lines such as
      never: web -> db
      only: api -> db:5432
      never: * -> api DELETE /v1/*
      always: mtls
    Example:
      meshpy policy verify --stack shop.yml --policies policies/ invariants.txt
    """
    mesh = Offline.read(stack, policies, namespace, trust_domain)
    proofs = proofs_of(mesh, invariants)
    findings = findings_of_proofs(proofs)
    passed = tuple((proof.invariant.place.file, proof.invariant.text) for proof in proofs if proof.holds)
    data = {"invariants": [_to_json(proof) for proof in proofs]}
    report = Report("policy verify", findings, passed, VERIFY_RULES, data)
    print_report(report, output, lambda: print_proofs(proofs))
    sys.exit(1 if findings else 0)


def proofs_of(mesh: Offline, paths: Sequence[Path]) -> list[Proof]:
    """Read and prove.

    Raises:
        DocumentError: a line that cannot be read, or that names no service.
    """
    invariants = read_invariants(read_policies(paths), mesh.namespace)
    problems = [
        Problem(one.place, f"there is no service {name}", _known(mesh))
        for one in invariants
        for name in unknown_parties(one, mesh.inventory)
    ]
    if problems:
        raise DocumentError(problems)
    return verify(mesh.snapshots, mesh.inventory, invariants)


def _known(mesh: Offline) -> str:
    return f"known are {', '.join(str(name) for name in sorted(mesh.inventory.services))}"


def findings_of_proofs(proofs: Sequence[Proof]) -> tuple[Finding, ...]:
    """What is not proved, at its line."""
    found = []
    for proof in proofs:
        if proof.holds:
            continue
        invariant: Invariant = proof.invariant
        code = "unproved" if proof.holds is None else "refuted"
        level = Level.WARNING if proof.holds is None else Level.ERROR
        shown = f", by {proof.witness}" if proof.witness is not None else ""
        what = f"{invariant.text!r} is {code}{shown}: {proof.why}"
        found.append(Finding(code, level, invariant.place, what, "", invariant.text))
    return tuple(found)


def _to_json(proof: Proof) -> dict[str, object]:
    return {
        "invariant": proof.invariant.text,
        "file": proof.invariant.place.file,
        "line": proof.invariant.place.line,
        "holds": proof.holds,
        "why": proof.why or None,
        "witness": proof.witness.to_json() if proof.witness else None,
        "classes": proof.classes,
    }


def print_proofs(proofs: Sequence[Proof]) -> None:
    words = {True: ("proved", "green"), False: ("refuted", "red"), None: ("unproved", "yellow")}
    for proof in proofs:
        word, colour = words[proof.holds]
        click.secho(f"{word:9}", fg=colour, nl=False)
        click.echo(f"{proof.invariant.text}")
        if proof.witness is not None:
            click.echo(f"         by {proof.witness}")
        if proof.why:
            click.echo(f"         {proof.why}")
