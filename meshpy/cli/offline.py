"""A mesh without a cluster: a stack file and policy files, compiled as the control plane would."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from meshpy.compile import check, compile_mesh
from meshpy.engine.claims import auth_of
from meshpy.engine.explain import Explanation, Source, explain
from meshpy.engine.normalise import TargetRefusal, normalise_target
from meshpy.engine.places import authority_of
from meshpy.engine.request import Request
from meshpy.errors import DocumentError, MeshpyError, Problem
from meshpy.inject import inventory_of_stack, policies_of_stack
from meshpy.model.inventory import Inventory
from meshpy.model.names import OUTSIDE_WORDS, ServiceName
from meshpy.model.snapshot import Snapshot
from meshpy.policy import PolicySet, load, load_documents

__all__ = [
    "Offline",
    "Question",
    "ask_any_mesh",
    "ask_mesh",
    "parse_headers",
    "read_policies",
    "split_port",
]


Command = TypeVar("Command", bound=Callable[..., Any])


def ask_mesh(command: Command) -> Command:
    """The options that say which mesh is meant: a stack file with policies."""
    stack = click.option("--stack", required=True, type=click.Path(path_type=Path), help="The stack file.")
    return stack(_ask_names(command))


def ask_any_mesh(command: Command) -> Command:
    """As `ask_mesh`, or the live one."""
    live = click.option("--live", is_flag=True, help="The mesh that runs, by its control plane.")
    stack = click.option("--stack", type=click.Path(path_type=Path), help="The stack file; not with --live.")
    return live(stack(_ask_names(command)))


def _ask_names(command: Command) -> Command:
    for option in (
        click.option(
            "-n",
            "--namespace",
            default="default",
            show_default=True,
            help="The stack's name, and that of policies.",
        ),
        click.option(
            "--policies", multiple=True, type=click.Path(path_type=Path), help="A file or folder; repeatable."
        ),
        click.option(
            "--trust-domain", default="cluster.local", show_default=True, help="The first part of identities."
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Question:
    """One request to judge, as a person writes it.

    Args:
        source: `web`, `shop/web` or `outside`.
        destination: `api`, `shop/api`, a logical host or an external one; without a port.
        headers: lower-case name → values.
        source_address: for rules on `nets` and `ipBlocks`; empty is unknown.
        claims: of a JWT, taken as signed and in its time; None: tokens are read from the headers.
    """

    source: str
    destination: str
    port: int | None
    method: str
    path: str
    headers: Mapping[str, Sequence[str]]
    source_address: str = ""
    claims: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Offline:
    """Everything that questions are asked of."""

    namespace: str
    inventory: Inventory
    snapshots: Mapping[ServiceName, Snapshot]
    warnings: tuple[Problem, ...]
    documents: PolicySet = field(default_factory=PolicySet)
    errors: tuple[Problem, ...] = ()

    @classmethod
    def read(
        cls,
        stack: Path,
        policies: Sequence[Path],
        namespace: str,
        trust_domain: str = "cluster.local",
        *,
        lenient: bool = False,
    ) -> Offline:
        """Compile a stack file, the policies that it states itself, and policy files.

        Args:
            lenient: keep what `check` calls an error in `errors` instead of raising it.

        Raises:
            DocumentError: everything that is wrong with them.
            MeshpyError: a file or folder that is not there.
        """
        text = _text_of(stack)
        inventory = inventory_of_stack(text, namespace, str(stack))
        documents = load(read_policies(policies), namespace)
        stated = policies_of_stack(text, namespace, str(stack))
        if stated:
            documents = load_documents((*documents.documents, *stated))
        findings = check(inventory, documents)
        if findings.errors and not lenient:
            raise DocumentError(findings.errors)
        snapshots = compile_mesh(inventory, documents, trust_domain=trust_domain, revision=0)
        return cls(namespace, inventory, snapshots, findings.warnings, documents, findings.errors)

    @property
    def trust_domain(self) -> str:
        """Of every service of the mesh."""
        return next((each.workload.trust_domain for each in self.snapshots.values()), "cluster.local")

    def compiled(self, policies: PolicySet) -> Mapping[ServiceName, Snapshot]:
        """The same services under other policies."""
        return compile_mesh(self.inventory, policies, trust_domain=self.trust_domain, revision=0)

    def ask(self, question: Question) -> Explanation:
        """Judge one request.

        Raises:
            MeshpyError: a name, method or path that cannot be.
        """
        request = _request(question)
        name = self._service(question.source)
        source = Source(name, question.source_address or self._address(name))
        return explain(self.snapshots, source, question.destination, question.port, request)

    def _address(self, name: ServiceName | None) -> str:
        """Where a service calls from; empty where nobody knows, as with no more than a stack file."""
        service = self.inventory.services.get(name) if name is not None else None
        return service.endpoints[0].address if service is not None and service.endpoints else ""

    def _service(self, text: str) -> ServiceName | None:
        """The source; None for callers without identity, exempt services among them."""
        if text in OUTSIDE_WORDS:
            return None
        try:
            name = ServiceName.parse(text, self.namespace)
        except ValueError as error:
            raise MeshpyError(str(error)) from None
        service = self.inventory.services.get(name)
        return None if service is not None and service.exempt else name


def _text_of(path: Path) -> str:
    if str(path) == "-":
        return sys.stdin.read()
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MeshpyError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise MeshpyError(f"{path}: is a folder, a file is needed") from None
    except UnicodeDecodeError:
        raise MeshpyError(f"{path}: is not UTF-8; save the file as UTF-8") from None


def read_policies(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """The texts of policy files, and of all .yaml and .yml files below folders.

    Raises:
        MeshpyError: a path that is not there, or a folder without such files.
    """
    texts: list[tuple[str, str]] = []
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(found for found in path.rglob("*") if found.suffix in (".yaml", ".yml"))
            if not files:
                raise MeshpyError(f"{path}: the folder has no .yaml or .yml file")
        texts += [(str(file), _text_of(file)) for file in files]
    return texts


def split_port(destination: str) -> tuple[str, int | None]:
    """`api:8080` → (`api`, 8080).

    Raises:
        MeshpyError: the port is no port.
    """
    host, colon, port = destination.rpartition(":")
    if not colon:
        return destination, None
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536) or not host:
        raise MeshpyError(f"{destination!r}: the port must be 1 to 65535; write {host or 'api'}:8080")
    return host, int(port)


def parse_headers(lines: Sequence[str]) -> dict[str, list[str]]:
    """`name: value` lines as a request carries them.

    Raises:
        MeshpyError: a line without a colon or a name.
    """
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise MeshpyError(f"{line!r} is no header; write 'name: value'")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    return headers


def _request(question: Question) -> Request:
    """The request as the first sidecar reads it: one spelling of the path, Host as authority."""
    target = normalise_target(question.path.encode("utf-8"))
    if isinstance(target, TargetRefusal):
        raise MeshpyError(f"the path {question.path!r} is refused with 400: {target.detail}")
    if not question.method.isascii() or not question.method.isalpha() or not question.method.isupper():
        raise MeshpyError(f"{question.method!r} is no method; write GET, POST, … in capitals")
    hosts = question.headers.get("host")
    authority = hosts[0].lower() if hosts else authority_of(question.destination, question.port)
    headers = {**question.headers, "host": [authority]}
    auth = None if question.claims is None else auth_of(question.claims)
    return Request(question.method, target.path, target.query, authority, "http", headers, auth)
