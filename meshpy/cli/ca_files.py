"""`meshpy ca init | sign | request | import | export`: a CA in files, and into and out of the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from certs.brought import brought_issuer, brought_key
from certs.certificates import certificates_from_pem
from certs.errors import CertError
from certs.files import read_file, write_atomic
from certs.store import CaStore
from meshpy.cli.ca_rotate import WAIT, drive, print_end, signed
from meshpy.cli.output import ask_format, print_result
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError

__all__ = ["export", "import_ca", "init", "request", "sign"]

FOLDER = click.Path(path_type=Path)
PASSPHRASE = click.option(
    "--passphrase-file", type=FOLDER, help="A file whose first line encrypts the keys; `-` asks for it."
)


@click.command()
@click.argument("directory", type=FOLDER)
@click.option("--trust-domain", default="cluster.local", show_default=True, help="Of every identity.")
@PASSPHRASE
@ask_format
def init(directory: Path, trust_domain: str, passphrase_file: Path | None, output: str) -> None:
    """Make a root and an intermediate in DIRECTORY: root.crt, root.key, intermediate.crt, intermediate.key.

    All but root.key go to the control plane (--ca-dir); take root.key offline.

    \b
    Example:
      meshpy ca init ca/ --trust-domain prod.example.com
    """
    store = CaStore(directory, passphrase_of(passphrase_file))
    try:
        if any(directory.glob("*.crt")) or any(directory.glob("*.key")):
            raise MeshpyError(f"{directory} holds certificates or keys already; nothing was changed")
        authority = store.load_or_create(trust_domain, datetime.now(UTC))
    except CertError as error:
        raise MeshpyError(str(error)) from error
    root = authority.bundle.fingerprints[0]
    made = {"directory": str(directory), "trust_domain": trust_domain, "root_sha256": root}
    print_result(output, made, f"root SHA-256 {root}")
    click.echo(
        f"take {directory / 'root.key'} offline: it is needed for the next intermediate only", err=True
    )


@click.command()
@ask_format
def request(output: str) -> None:
    """Print a signing request (PEM) of the control plane, for an intermediate; its key stays there.

    \b
    Example:
      meshpy ca request > mesh.csr
    """
    answer = Operator(Context.load()).call("POST", "/v1/ca/request")
    print_result(output, answer, answer["csr"].rstrip())


@click.command()
@click.argument("csr", type=FOLDER)
@click.option("--root", "root_file", type=FOLDER, required=True, help="root.crt")
@click.option("--root-key", type=FOLDER, required=True, help="root.key; where this runs needs no network.")
@click.option("--trust-domain", default="cluster.local", show_default=True, help="Of every identity.")
@PASSPHRASE
@ask_format
def sign(
    csr: Path,
    root_file: Path,
    root_key: Path,
    trust_domain: str,
    passphrase_file: Path | None,
    output: str,
) -> None:
    """Sign the request CSR by an offline root and print the intermediate, for `meshpy ca import --chain`.

    \b
    Example:
      meshpy ca sign mesh.csr --root root.crt --root-key root.key > signed.crt
    """
    try:
        root = certificates_from_pem(read_file(root_file))[0]
        key = brought_key(read_file(root_key), passphrase_of(passphrase_file), str(root_key))
        chain = signed(read_file(csr), root, key, trust_domain)
    except CertError as error:
        raise MeshpyError(str(error)) from error
    print_result(output, {"chain": chain}, chain.rstrip())


@click.command(name="import")
@click.option("--root", "root_file", type=FOLDER, required=True, help="The root certificate, PEM.")
@click.option("--chain", type=FOLDER, required=True, help="Who signs leaves, then those above it, PEM.")
@click.option("--key", type=FOLDER, help="Of the first in --chain; none: of the request that was printed.")
@PASSPHRASE
@click.option("--force", multiple=True, metavar="NAME", help="As with `meshpy ca rotate`.")
@WAIT
@ask_format
def import_ca(
    root_file: Path,
    chain: Path,
    key: Path | None,
    passphrase_file: Path | None,
    force: tuple[str, ...],
    wait_s: float,
    output: str,
) -> None:
    """Let an existing CA sign: at once under the same root, else as a root rotation with all its steps.

    Everything is checked here first: chain, path lengths, key, constraints, dates, and a trial leaf.

    \b
    Examples:
      meshpy ca import --root root.crt --chain intermediate.crt --key intermediate.key
      meshpy ca import --root root.crt --chain signed.crt      # the key of `meshpy ca request`
    """
    operator, passphrase = Operator(Context.load()), passphrase_of(passphrase_file)
    body: dict[str, Any] = {"root": _text(root_file), "chain": _text(chain)}
    if key is not None:
        trust_domain = operator.call("GET", "/v1/bundle")["trust_domain"]
        try:
            found = brought_key(read_file(key), passphrase, str(key))
            brought_issuer(
                body["root"].encode(), body["chain"].encode(), found, trust_domain, datetime.now(UTC)
            )
        except CertError as error:
            raise MeshpyError(
                _with_files(str(error), {"root": root_file, "chain": chain, "key": key})
            ) from error
        body["key"] = _text(key)
        if passphrase is not None:
            body["passphrase"] = passphrase.decode()
    operator.call("POST", "/v1/ca/next", body)
    print_end(drive(operator, frozenset(force), wait_s), output)


@click.command()
@click.argument("directory", type=FOLDER)
@PASSPHRASE
@ask_format
def export(directory: Path, passphrase_file: Path | None, output: str) -> None:
    """Write the CA in use to DIRECTORY, its key encrypted: a backup that --ca-dir takes as it is.

    \b
    Example:
      meshpy ca export backup/ --passphrase-file -
    """
    passphrase = passphrase_of(passphrase_file)
    if passphrase is None:
        raise MeshpyError("the key leaves the control plane encrypted only: name --passphrase-file")
    if directory.exists() and any(directory.iterdir()):
        raise MeshpyError(f"{directory} is not empty; nothing was written")
    body = {"passphrase": passphrase.decode()}
    answer = Operator(Context.load()).call("POST", "/v1/ca/export", body)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = (
        ("root.crt", "root", 0o644),
        ("intermediate.crt", "chain", 0o644),
        ("intermediate.key", "key", 0o600),
    )
    try:
        for name, what, mode in files:
            write_atomic(directory / name, answer[what].encode(), mode)
    except CertError as error:
        raise MeshpyError(str(error)) from error
    names, trust_domain = [name for name, _, _ in files], answer["trust_domain"]
    written = {"directory": str(directory), "files": names, "trust_domain": trust_domain}
    print_result(output, written, f"{directory}: {', '.join(names)} of {trust_domain}")


def passphrase_of(file: Path | None) -> bytes | None:
    """The passphrase of an option.

    Raises:
        MeshpyError: the file cannot be read, or is empty.
    """
    if file is None:
        return None
    if str(file) == "-":
        return str(click.prompt("passphrase", hide_input=True, err=True)).encode()
    lines = _text(file).splitlines()
    if not lines or not lines[0]:
        raise MeshpyError(f"{file}: the first line is the passphrase, and it is empty")
    return lines[0].encode()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MeshpyError(f"{file}: is no text, but PEM or a passphrase was expected") from error
    except OSError as error:
        raise MeshpyError(f"{file}: cannot be read: {error.strerror}") from error


def _with_files(message: str, files: Mapping[str, Path]) -> str:
    """Name the file and not only the part: `chain certificate 2: …` -> `ca/chain.pem certificate 2: …`."""
    for part, file in files.items():
        if message.startswith(part):
            return f"{file}{message.removeprefix(part)}"
    return message
