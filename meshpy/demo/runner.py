"""Run a stack file as a mesh of processes on loopback: control plane, a sidecar a service, the apps."""

from __future__ import annotations

import errno
import json
import secrets
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshpy.client import ApiError, Context, Operator
from meshpy.demo.plan import DemoPlan, SidecarProcess, StackCommand, plan_demo
from meshpy.demo.processes import Crew, own_command
from meshpy.errors import MeshpyError
from meshpy.inject import inventory_of_stack, policies_of_stack
from meshpy.inject.stackfile import StackFile
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import MESH_PORT
from meshpy.policy import Document
from meshpy.wire import encode

__all__ = ["Demo", "Door", "run_demo"]

START_S = 60.0
LEARNING_S = 60
FIRST_OCTET, LAST_OCTET = 77, 126


@dataclass(frozen=True, slots=True)
class Door:
    """Where callers from outside the mesh come in."""

    service: ServiceName
    address: str
    port: int

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return f"http://{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo."""

    plan: DemoPlan
    operator: Operator
    crew: Crew
    directory: Path

    @property
    def door(self) -> Door | None:
        """The first HTTP port that is open to the outside."""
        edges = {sidecar.service: sidecar.edge_address for sidecar in self.plan.sidecars}
        for service in self.plan.inventory.services.values():
            for port in service.ports:
                if port.published and port.protocol.is_http and service.name in edges:
                    return Door(service.name, edges[service.name], port.number)
        return None


@contextmanager
def run_demo(
    stack_file: Path, namespace: str, policies: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[Demo]:
    """Start everything, yield when every sidecar is in sync, stop everything.

    Args:
        policies: documents by file name.

    Raises:
        DocumentError: the stack file or a policy is wrong.
        MeshpyError: something could not be started.
    """
    text = stack_file.read_text()
    commands, left_out = _commands(StackFile.parse(text, str(stack_file)).value)
    inventory = inventory_of_stack(text, namespace, str(stack_file))
    left_out |= {s.name.name: s.exempt for s in inventory.services.values() if s.exempt}
    plan = plan_demo(inventory, commands, octet=_free_octet(), left_out=left_out)
    for name, reason in plan.left_out.items():
        say(f"left out: {name} ({reason})")
    directory = Path(tempfile.mkdtemp(prefix="meshpy-demo-"))
    crew = Crew(directory)
    try:
        operator = _start_control_plane(plan, crew, directory)
        say(f"export MESHPY_URL={operator.context.url} MESHPY_TOKEN={operator.context.token}")
        say(f"dashboard: {operator.context.url}/dashboard/#token={operator.context.token}")
        stated = policies_of_stack(text, namespace, str(stack_file))
        operator.call("PUT", "/v1/policies", _put(policies, stated, namespace))
        for sidecar in plan.sidecars:
            _start_sidecar(sidecar, operator, crew, directory)
        _wait(lambda: _synced(operator, len(plan.sidecars)), crew, "every sidecar is in sync")
        _start_apps(plan, crew)
        yield Demo(plan, operator, crew, directory)
    finally:
        crew.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _put(policies: Mapping[str, str], stated: Iterable[Document], namespace: str) -> dict[str, Any]:
    documents = [{"name": name, "text": text} for name, text in policies.items()]
    documents += [{"name": doc.file, "text": "\n" * (doc.line - 1) + doc.text} for doc in stated]
    return {"documents": documents, "default_namespace": namespace}


def _commands(stack: Mapping[str, Any]) -> tuple[dict[str, StackCommand], dict[str, str]]:
    """How each service starts here, and why some cannot."""
    overrides = stack.get("x-demo") or {}
    commands, left_out = {}, {}
    for name, service in stack["services"].items():
        own = [*_words(service.get("entrypoint")), *_words(service.get("command"))]
        ways = _ways(overrides.get(name) or own)
        if not ways:
            left_out[name] = "its image's own command is unknown here; name one under x-demo"
            continue
        installed = [(found, argv) for argv in ways if (found := _program(argv[0])) is not None]
        if not installed:
            left_out[name] = f"{ways[0][0]} is not installed"
            continue
        program, argv = installed[0]
        commands[name] = StackCommand((program, *argv[1:]), _environment(service.get("environment")))
    return commands, left_out


def _ways(command: Any) -> list[list[str]]:
    """One command, or several of which the first that is installed will do."""
    ways = (
        command
        if isinstance(command, list) and all(isinstance(each, list) for each in command)
        else [command]
    )
    return [words for each in ways if (words := _words(each))]


def _program(name: str) -> str | None:
    return sys.executable if name in ("python", "python3") else shutil.which(name)


def _words(value: Any) -> list[str]:
    return shlex.split(value) if isinstance(value, str) else [str(word) for word in value or ()]


def _environment(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {key: "" if item is None else str(item) for key, item in value.items()}
    pairs = (str(item).partition("=") for item in value or ())
    return {key: item for key, _, item in pairs}


def _free_octet() -> int:
    """The first 127.N.0.0/16 on which no other demo listens.

    Raises:
        MeshpyError: this system binds 127.0.0.1 only, or all are taken.
    """
    for octet in range(FIRST_OCTET, LAST_OCTET):
        with socket.socket() as probe:
            try:
                probe.bind((f"127.{octet}.1.2", MESH_PORT))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise MeshpyError(
                        "the demo needs all of 127.0.0.0/8 on the loopback interface, as on Linux"
                    ) from error
                continue
            return octet
    raise MeshpyError(f"127.{FIRST_OCTET}.1.2 … 127.{LAST_OCTET}.1.2 are all taken on port {MESH_PORT}")


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise MeshpyError("no free port on 127.0.0.1")


def _start_control_plane(plan: DemoPlan, crew: Crew, directory: Path) -> Operator:
    (directory / "inventory.json").write_text(json.dumps(encode(plan.inventory)))
    token, url = secrets.token_urlsafe(24), f"http://127.0.0.1:{_free_port(15014)}"
    for name, content in (("operator-token", token), ("join-key", secrets.token_urlsafe(32))):
        (directory / name).write_text(content)
        (directory / name).chmod(0o600)
    sidecar_port = _free_port(15012)
    (directory / "sidecar-port").write_text(str(sidecar_port))
    argv = [own_command("meshpy-control-plane"), "serve", "--data", str(directory / "data")]
    argv += ["--discovery", "static", "--inventory", str(directory / "inventory.json")]
    argv += [
        "--sidecar-listen",
        f"127.0.0.1:{sidecar_port}",
        "--operator-listen",
        url.removeprefix("http://"),
    ]
    argv += ["--operator-token-file", str(directory / "operator-token")]
    argv += ["--join-key-file", str(directory / "join-key"), "--operator-tls", "off"]
    crew.start("control-plane", argv, {"MESHPY_ANOMALY_LEARNING_S": str(LEARNING_S)})
    operator = Operator(Context(url=url, token=token))
    _wait(lambda: _answers(operator), crew, "the control plane answers")
    (directory / "ca.crt").write_text(operator.call("GET", "/v1/bundle")["pem"])
    return operator


def _start_sidecar(sidecar: SidecarProcess, operator: Operator, crew: Crew, directory: Path) -> None:
    name: ServiceName = sidecar.service
    token = operator.call("POST", "/v1/join-tokens", {"service": str(name)})["token"]
    token_file = directory / f"{name.name}.join"
    token_file.touch(mode=0o600)
    token_file.write_text(token)
    env = {
        "MESHPY_NAMESPACE": name.namespace,
        "MESHPY_SERVICE": name.name,
        "MESHPY_TASK_ID": f"local-{name.name}",
        "MESHPY_NODE": "local",
        "MESHPY_METRICS": f"{sidecar.mesh_address}:15020",
        "MESHPY_QUIET_S": "0",  # nobody looks names up here
        "MESHPY_CONTROL_PLANE": f"127.0.0.1:{(directory / 'sidecar-port').read_text()}",
        "MESHPY_JOIN_TOKEN_FILE": str(token_file),
        "MESHPY_TRUST_BUNDLE_FILE": str(directory / "ca.crt"),
    }
    argv = [own_command("meshpy-proxy"), "--mesh-bind", f"{sidecar.mesh_address}:{MESH_PORT}"]
    argv += ["--admin", f"{sidecar.mesh_address}:15000", "--bind", f"edge={sidecar.edge_address}"]
    crew.start(f"{name.name}-sidecar", argv, env)


def _start_apps(plan: DemoPlan, crew: Crew) -> None:
    """Start who listens first, and who only calls when all of those answer."""
    ports = {
        service.name: [port.number for port in service.ports] for service in plan.inventory.services.values()
    }
    for app in plan.apps:
        if ports[app.service]:
            crew.start(app.service.name, app.argv, app.env)
    for app in plan.apps:
        _wait(
            lambda app=app: all(_listens(app.address, port) for port in ports[app.service]),  # type: ignore[misc]
            crew,
            f"{app.service.name} listens",
        )
    for app in plan.apps:
        if not ports[app.service]:
            crew.start(app.service.name, app.argv, app.env)


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def _answers(operator: Operator) -> bool:
    try:
        operator.call("GET", "/healthz")
    except ApiError:
        return False
    return True


def _synced(operator: Operator, expected: int) -> bool:
    sidecars = operator.call("GET", "/v1/status")["sidecars"]
    in_sync = [sidecar for sidecar in sidecars if sidecar["state"] == "SYNCED"]
    return len(in_sync) >= expected


def _wait(ready: Callable[[], bool], crew: Crew, what: str) -> None:
    deadline = time.monotonic() + START_S
    while not ready():
        crew.check()
        if time.monotonic() > deadline:
            raise MeshpyError(f"waited {START_S:.0f} s in vain until {what}; logs are in {crew.logs}")
        time.sleep(0.1)
