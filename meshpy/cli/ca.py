"""`meshpy ca`: the mesh's CA, and identities that are revoked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import click

from meshpy.cli.ca_files import export, import_ca, init, request, sign
from meshpy.cli.ca_rotate import rotate
from meshpy.cli.groups import Group
from meshpy.cli.output import ask_format, print_json, print_result, print_table
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from meshpy.model.names import ServiceName

__all__ = ["ca"]

WARN_DAYS = 30


@click.group(cls=Group)
def ca() -> None:
    """Look at the CA, make, rotate, import and export it; revoke and restore identities.

    \b
    Examples:
      meshpy ca status
      meshpy ca rotate --dry-run
      meshpy ca revoke shop/api -m "its image was tampered with"
      meshpy ca restore shop/api
    """


@ca.command()
@ask_format
def status(output: str) -> None:
    """Show the CA's certificates and revoked identities. Exit 1 when a certificate ends within 30 days, or
    the audit log was changed.

    \b
    Examples:
      meshpy ca status
      meshpy ca status -o json
    """
    operator = Operator(Context.load())
    answer: dict[str, Any] = operator.call("GET", "/v1/ca") | operator.call("GET", "/v1/ca/denied")
    certificates = [("root", each) for each in answer["roots"]] + [("intermediate", answer["intermediate"])]
    days = [_days_left(each) for _, each in certificates]
    if output == "json":
        print_json(answer)
    else:
        click.echo(
            f"trust domain {answer['trust_domain']}, certificates of {answer['leaf_ttl_s']} s,"
            f" {answer['issued']} issued, {answer['refused']} refused since the start;"
            f" signed by: {answer['signer']}"
        )
        audit = answer["audit"]
        click.echo(f"audit log: {audit['records']} records, head {audit['head'][:32]}")
        if audit["broken_at"]:
            click.echo(
                f"the audit log was changed: line {audit['broken_at']} does not follow from the one before"
            )
        if answer["phase"] != "steady":
            click.echo(f"a root rotation is under way ({answer['phase']}): go on with `meshpy ca rotate`")
        rows = [
            (what, each["subject"], each["serial"][:16], each["not_after"][:19], f"{left} days")
            for (what, each), left in zip(certificates, days, strict=True)
        ]
        print_table(("CERTIFICATE", "SUBJECT", "SERIAL", "ENDS", "LEFT"), rows)
        if answer["denied"]:
            print_table(("REVOKED", "WHY"), [(e["service"], e["message"] or "-") for e in answer["denied"]])
    if min(days) < WARN_DAYS or answer["audit"]["broken_at"]:
        sys.exit(1)


for command in (init, request, sign, import_ca, export, rotate):
    ca.add_command(command)


def _days_left(certificate: Mapping[str, Any]) -> int:
    return (datetime.fromisoformat(certificate["not_after"]) - datetime.now(UTC)).days


@ca.command()
@click.argument("service")
@click.option("-m", "--message", default="", help="Why, for `meshpy ca status` and the audit log.")
@ask_format
def revoke(service: str, message: str, output: str) -> None:
    """Revoke the identity of SERVICE (NAMESPACE/NAME): every sidecar refuses it, the CA renews it no more.

    \b
    Example:
      meshpy ca revoke shop/api -m "its image was tampered with"
    """
    path = f"/v1/ca/denied/{quote(str(_service(service)))}?message={quote(message)}"
    print_result(output, Operator(Context.load()).call("PUT", path), f"{service} is revoked")


@ca.command()
@click.argument("service")
@ask_format
def restore(service: str, output: str) -> None:
    """Let SERVICE have certificates again.

    \b
    Example:
      meshpy ca restore shop/api
    """
    path = f"/v1/ca/denied/{quote(str(_service(service)))}"
    print_result(output, Operator(Context.load()).call("DELETE", path), f"{service} is restored")


def _service(text: str) -> ServiceName:
    try:
        return ServiceName.parse(text)
    except ValueError as error:
        raise MeshpyError(str(error)) from error
