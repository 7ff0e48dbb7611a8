"""`meshpy ca rotate`: one root takes over from another, in steps that wait for every sidecar."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certs.certificates import certificates_from_pem
from certs.csr import checked_public_key
from certs.errors import CertError
from certs.files import read_file, write_atomic
from certs.keys import generate_key, key_from_pem, key_to_pem, same_public_key
from certs.profile import build_intermediate, build_root
from meshpy.cli.output import ask_format, duration_s, print_result
from meshpy.client import CONTEXT_FILE, ApiError, Context, Operator
from meshpy.errors import MeshpyError

__all__ = ["WAIT", "drive", "print_end", "rotate", "signed"]

WAIT = click.option(
    "--wait",
    "wait_s",
    type=duration_s,
    metavar="TIME",
    default="5m",
    show_default=True,
    help="For each step.",
)

POLL_S = 0.5
AWAY_S = 60.0
"""How long a control plane may be away during a rotation before the command gives up; it can be run again."""
STEPS = {
    "steady": "one root",
    "trusting": "both roots are believed in, the old one signs",
    "issuing": "both roots are believed in, the new one signs",
}
FOLDER = click.Path(path_type=Path)


@click.command()
@click.option(
    "--dry-run", is_flag=True, help="Say what would be done and who lags; exit 1 when somebody does."
)
@click.option("--force", multiple=True, metavar="NAME", help="Go on without this laggard; repeatable.")
@click.option("--abort", is_flag=True, help="Give the rotation up, before the new root signs.")
@click.option("--intermediate", is_flag=True, help="A new intermediate under the same root: the yearly task.")
@click.option(
    "--drop-old", is_flag=True, help="The old key was stolen: prove nothing by the old root any more."
)
@click.option("--root-key", type=FOLDER, help="With --intermediate: the root's key.  [default: as installed]")
@WAIT
@ask_format
def rotate(
    dry_run: bool,
    force: tuple[str, ...],
    abort: bool,
    intermediate: bool,
    drop_old: bool,
    root_key: Path | None,
    wait_s: float,
    output: str,
) -> None:
    """Replace the root: A, then A and B, then B. Refuses to go on while a sidecar lags.

    The new root's key is made on this machine and stays on it; the control plane makes the key of its own
    intermediate, which is signed here. Interrupted anywhere, the command goes on where the mesh stands.

    \b
    Examples:
      meshpy ca rotate --dry-run
      meshpy ca rotate
      meshpy ca rotate --force shop/api/k3f9…      # this task alone may be cut off
    """
    operator, folder = Operator(Context.load()), _folder()
    now = operator.call("GET", "/v1/ca/rotation")
    if dry_run:
        sys.exit(_plan(now, frozenset(force), output))
    if abort:
        operator.call("POST", "/v1/ca/abort")
        print_result(output, {"aborted": True, "root": now["root"]}, "given up: the old root is the only one")
        return
    if intermediate:
        _renew_intermediate(operator, folder, root_key)
        told = "a new intermediate signs; peers notice nothing"
        print_result(output, {"intermediate": "renewed", "root": now["root"]}, told)
        return
    new = _saved(folder)
    if now["phase"] == "steady" and (new is None or _fingerprint(new[0]) != now["root"]):
        _begin(operator, folder, new)
    end = drive(operator, frozenset(force), wait_s)
    _finish(operator, folder)
    if drop_old:
        operator.call("DELETE", "/v1/ca/retired")
        click.echo(
            "the old root is forgotten: stacks that were deployed before bootstrap no more, redeploy them",
            err=True,
        )
    print_end(end, output)


def print_end(now: Mapping[str, Any], output: str) -> None:
    """What a rotation has come to."""
    told = f"done: root {now['root'][:16]} alone, {now['ready']} of {now['expected']} sidecars have it"
    print_result(output, now, told)


def _plan(now: Mapping[str, Any], force: Collection[str], output: str) -> int:
    """Tell what would be done; the exit code says whether somebody lags."""
    order = ("trusting", "issuing", "steady")
    left = order if now["phase"] == "steady" else order[order.index(now["phase"]) + 1 :]
    lagging = [each for each in now["waiting_for"] if each["name"] not in force]
    told = [f"now: {STEPS[now['phase']]} (root {now['root'][:16]})"]
    for step in left:
        what = "the new root alone" if step == "steady" else STEPS[step]
        told.append(f"then, when every sidecar has followed: {what}")
    told.append(f"{now['ready']} of {now['expected']} sidecars are ready")
    told += [f"  {each['name']}: {each['why']}" for each in lagging]
    print_result(output, {**now, "waiting_for": lagging, "next": left}, "\n".join(told))
    return 1 if lagging else 0


def _begin(operator: Operator, folder: Path, saved: tuple[x509.Certificate, Any] | None) -> None:
    trust_domain = operator.call("GET", "/v1/bundle")["trust_domain"]
    root, key = saved or _make_root(folder, trust_domain)
    csr = operator.call("POST", "/v1/ca/request")["csr"].encode()
    chain = signed(csr, root, key, trust_domain)
    operator.call("POST", "/v1/ca/next", {"root": _pem(root), "chain": chain})
    click.echo(f"new root {_fingerprint(root)[:16]}, key in {folder / 'root-next.key'}", err=True)


def drive(operator: Operator, force: Collection[str], wait_s: float) -> dict[str, Any]:
    """Go through the phases that are left, each when everybody has followed; what stands at the end.

    Raises:
        MeshpyError: somebody lags for too long; the names are in the message.
    """
    while True:
        now = _wait(operator, force, wait_s)
        operator = _believing(operator)
        if now["phase"] == "steady":
            return now
        _retried(operator, "POST", "/v1/ca/advance", {"from": now["phase"], "force": sorted(force)})


def _wait(operator: Operator, force: Collection[str], wait_s: float) -> dict[str, Any]:
    deadline, shown = time.monotonic() + wait_s, ""
    while True:
        now: dict[str, Any] = _retried(operator, "GET", "/v1/ca/rotation")
        lagging = [each for each in now["waiting_for"] if each["name"] not in force]
        text = f"{now['phase']}: {STEPS[now['phase']]}; {now['ready']} of {now['expected']} sidecars follow"
        if text != shown:
            click.echo(text, err=True)
            shown = text
        if not lagging:
            return now
        if time.monotonic() > deadline:
            names = "\n".join(f"  {each['name']}: {each['why']}" for each in lagging[:20])
            raise MeshpyError(
                f"after {wait_s:.0f} s {len(lagging)} sidecar(s) lag in the step `{now['phase']}`; nothing is"
                f" lost: run `meshpy ca rotate` again, or name those that may be cut off by --force:\n{names}"
            )
        time.sleep(POLL_S)


def _retried(operator: Operator, method: str, path: str, body: object = None) -> Any:
    """A control plane may be away for a while: what was stored is there when it is back."""
    deadline = time.monotonic() + AWAY_S
    while True:
        try:
            return operator.call(method, path, body)
        except ApiError as error:
            if error.status not in (0, 502, 503) or time.monotonic() > deadline:
                if error.status == 409 and path.endswith("advance"):
                    return None  # somebody else made the step, or somebody began to lag: looked at again
                raise
            time.sleep(POLL_S)


def _renew_intermediate(operator: Operator, folder: Path, key_file: Path | None) -> None:
    try:
        key = key_from_pem(read_file(key_file or folder / "root.key"))
        bundle = operator.call("GET", "/v1/bundle")
        root = certificates_from_pem(bundle["pem"].encode())[0]
        csr = operator.call("POST", "/v1/ca/request")["csr"].encode()
        chain = signed(csr, root, key, bundle["trust_domain"])
    except CertError as error:
        raise MeshpyError(str(error)) from error
    operator.call("POST", "/v1/ca/next", {"root": _pem(root), "chain": chain})


def signed(csr: bytes, root: x509.Certificate, key: ec.EllipticCurvePrivateKey, trust_domain: str) -> str:
    """An intermediate for a request of the control plane, PEM.

    Raises:
        CertError: the request is bad, or the key is not the root's.
    """
    if not same_public_key(root.public_key(), key.public_key()):
        raise CertError("this is not the key of the root")
    public, serial = checked_public_key(csr), x509.random_serial_number()
    made = build_intermediate(public, trust_domain, root, key, now=datetime.now(UTC), serial=serial)
    return _pem(made)


def _make_root(folder: Path, trust_domain: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The key first: a root whose key is lost must not be believed in by anybody."""
    key = generate_key()
    root = build_root(key, trust_domain, now=datetime.now(UTC), serial=x509.random_serial_number())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(folder / "root-next.key", key_to_pem(key))
        write_atomic(folder / "root-next.crt", _pem(root).encode(), 0o644)
    except CertError as error:
        raise MeshpyError(str(error)) from error
    return root, key


def _saved(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """The root of a rotation that was begun on this machine."""
    if not (folder / "root-next.crt").exists():
        return None
    try:
        root = certificates_from_pem(read_file(folder / "root-next.crt"))[0]
        return root, key_from_pem(read_file(folder / "root-next.key"))
    except CertError as error:
        raise MeshpyError(str(error)) from error


def _finish(operator: Operator, folder: Path) -> None:
    """The new root's key takes the name of the old one's, which is kept aside."""
    new = _saved(folder)
    if new is None or _fingerprint(new[0]) != operator.call("GET", "/v1/ca/rotation")["root"]:
        return
    old = folder / "root.key"
    if old.exists():
        stamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        old.rename(folder / f"root-until-{stamp}.key")
    (folder / "root-next.key").rename(old)
    (folder / "root-next.crt").rename(folder / "root.crt")


def _believing(operator: Operator) -> Operator:
    """Keep the operator's own bundle up with the mesh; an environment that names one is left alone."""
    file = Path(os.environ.get("MESHPY_CONTEXT", str(CONTEXT_FILE))).expanduser()
    if not operator.context.ca_pem or "MESHPY_CA_FILE" in os.environ or not file.exists():
        return operator
    pem = operator.call("GET", "/v1/bundle")["pem"]
    saved = json.loads(file.read_text())
    if saved.get("ca_pem") != pem:
        write_atomic(file, json.dumps({**saved, "ca_pem": pem}, indent=2).encode())
    return replace(operator, context=replace(operator.context, ca_pem=pem))


def _folder() -> Path:
    return Path(os.environ.get("MESHPY_CONTEXT", str(CONTEXT_FILE))).expanduser().parent


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
