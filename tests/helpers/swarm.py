"""A running Docker Swarm, seen through the docker command; every wait has an end."""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

POLL_S = 0.25
STACK_LABEL = "com.docker.stack.namespace="
T = TypeVar("T")


class UnixConnection(http.client.HTTPConnection):
    """HTTP to the engine's socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a service, as `GET /tasks` shows it."""

    id: str
    service: str
    state: str
    desired: str
    container: str
    error: str
    addresses: dict[str, str]  # network name -> IPv4
    node: str = ""  # the hostname

    @property
    def is_running(self) -> bool:
        return self.state == self.desired == "running"


@dataclass(frozen=True, slots=True)
class Done:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


class EngineError(Exception):
    """A docker command failed, or a wait ended without success."""


def parse_task(document: dict, names: dict[str, str], nodes: dict[str, str]) -> Task:
    """Read the fields of one task that tests need."""
    status = document["Status"]
    container = status.get("ContainerStatus") or {}
    attachments = document.get("NetworksAttachments") or []
    return Task(
        id=document["ID"],
        service=names.get(document["ServiceID"], document["ServiceID"]),
        state=status["State"],
        desired=document["DesiredState"],
        container=container.get("ContainerID", ""),
        error=status.get("Err", ""),
        addresses={
            attachment["Network"]["Spec"]["Name"]: attachment["Addresses"][0].split("/")[0]
            for attachment in attachments
            if attachment.get("Addresses")
        },
        node=nodes.get(document.get("NodeID", ""), ""),
    )


class Engine:
    """The engine at `host`; service names are full ones (`shop_web`)."""

    def __init__(self, host: str, seen: Path) -> None:
        self.host = host
        self.further: dict[str, str] = {}  # hostname of another node -> its engine
        self._seen = seen
        self.env = os.environ | {"DOCKER_HOST": host}

    def run(self, *command: str, timeout_s: float = 60, stdin: str = "", cwd: Path | None = None) -> Done:
        """Run any command with DOCKER_HOST set."""
        done = subprocess.run(
            command,
            env=self.env,
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def docker(self, *arguments: str, timeout_s: float = 60, stdin: str = "", cwd: Path | None = None) -> str:
        """Run `docker …`, which must succeed, and return its output."""
        done = self.run("docker", *arguments, timeout_s=timeout_s, stdin=stdin, cwd=cwd)
        if done.code != 0:
            raise EngineError(f"docker {' '.join(arguments)}: exit {done.code}\n{done.out}{done.err}")
        return done.out

    def api(self, path: str) -> Any:
        """GET a path of the Engine API: the command line does not show all of a task."""
        connection = UnixConnection(self.host.removeprefix("unix://"))
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise EngineError(f"GET {path}: {answer.status} {body!r}")
        return json.loads(body)

    def wait(self, what: str, is_true: Callable[[], T], timeout_s: float = 60) -> T:
        """Poll until the answer is truthy and return it; `what` is named when it never is."""
        deadline = time.monotonic() + timeout_s
        while True:
            if answer := is_true():
                return answer
            if time.monotonic() > deadline:
                raise EngineError(f"waited {timeout_s} s in vain: {what}")
            time.sleep(POLL_S)

    def tasks(self, service: str = "", stack: str = "") -> list[Task]:
        """All tasks, of one service or of one stack, ended ones included."""
        services = {document["ID"]: document["Spec"] for document in self.api("/services")}
        names = {
            key: spec["Name"]
            for key, spec in services.items()
            if service in {"", spec["Name"]}
            and stack in {"", spec["Labels"].get("com.docker.stack.namespace", "")}
        }
        found = [task for task in self.api("/tasks") if task["ServiceID"] in names]
        nodes = {node["ID"]: node["Description"]["Hostname"] for node in self.api("/nodes")}
        return [parse_task(task, names, nodes) for task in sorted(found, key=lambda task: task["CreatedAt"])]

    def running(self, service: str) -> list[Task]:
        """Tasks that are, and should be, running (and healthy, where there is a healthcheck)."""
        return [task for task in self.tasks(service) if task.is_running]

    def alive(self, service: str) -> list[Task]:
        """Tasks whose container runs, those that are told to stop included."""
        return [task for task in self.tasks(service) if task.state in {"starting", "running"}]

    def wait_running(self, service: str, count: int = 1, timeout_s: float = 60) -> list[Task]:
        """Wait until exactly `count` tasks run; a failure shows what became of all of them."""

        def settled() -> list[Task]:
            found = self.running(service)
            return found if len(found) == count else []

        try:
            return self.wait(f"{count} running task(s) of {service}", settled, timeout_s)
        except EngineError as error:
            raise EngineError(f"{error}\n{self.describe(service)}") from None

    def wait_stack(self, stack: str, timeout_s: float = 120) -> None:
        """Wait until every service of a stack has as many running tasks as it asks for."""
        listing = f"/services?status=true&filters={quote(json.dumps({'label': [STACK_LABEL + stack]}))}"

        def settled() -> bool:
            statuses = [document["ServiceStatus"] for document in self.api(listing)]
            return bool(statuses) and all(each["RunningTasks"] == each["DesiredTasks"] for each in statuses)

        try:
            self.wait(f"all tasks of stack {stack}", settled, timeout_s)
        except EngineError as error:
            names = [document["Spec"]["Name"] for document in self.api(listing)]
            raise EngineError("\n".join([str(error), *map(self.describe, names)])) from None

    def describe(self, service: str) -> str:
        """The tasks of a service and the end of its log, for a failure's message."""
        lines = [f"{task.service} {task.id} {task.state} ({task.error})" for task in self.tasks(service)]
        return "\n".join([*lines, self.logs(service, 15)])

    def deploy(self, stack: str, text: str) -> None:
        """`docker stack deploy` of a stack file's text; images are local ones."""
        self.docker("stack", "deploy", "--resolve-image", "never", "-c", "-", stack, stdin=text)

    def remove(self, stack: str, timeout_s: float = 60) -> None:
        """Remove a stack and wait until its tasks' containers and its networks are gone."""
        containers = {task.container for task in self.tasks(stack=stack)} - {""}
        self.wait(f"{stack} is removed", lambda: self._is_removed(stack), timeout_s)
        label = f"label={STACK_LABEL}{stack}"
        self.wait(
            f"networks of {stack} are gone",
            lambda: not self.docker("network", "ls", "-q", "-f", label),
            timeout_s,
        )

        def gone() -> bool:
            return not containers & set(self.docker("ps", "-q", "--no-trunc").split())

        self.wait(f"containers of {stack} are gone", gone, timeout_s)

    def _is_removed(self, stack: str) -> bool:
        """Ask for it; once more where a network was in use by its last task, or was gone with that one."""
        done = self.run("docker", "stack", "rm", stack)
        if done.code != 0 and not ("in use by task" in done.err or "not found" in done.err):
            raise EngineError(f"docker stack rm {stack}: exit {done.code}\n{done.out}{done.err}")
        return done.code == 0

    def docker_at(self, task: Task) -> list[str]:
        """`docker`, speaking to the engine of the task's node."""
        return ["docker", "-H", self.further.get(task.node, self.host)]

    def task(self, service: str) -> Task:
        """The one running task of a service."""
        [task] = self.wait_running(service)
        return task

    def exec(self, task: Task, *command: str, timeout_s: float = 30) -> Done:
        """Run a command in a task's container, as the application would."""
        return self.run(*self.docker_at(task), "exec", task.container, *command, timeout_s=timeout_s)

    def python(self, task: Task, code: str, *arguments: str, timeout_s: float = 30) -> Done:
        """Run Python in a task's container."""
        return self.exec(task, "python3", "-c", code, *arguments, timeout_s=timeout_s)

    def in_network_of(self, task: Task, *command: str, timeout_s: float = 30) -> Done:
        """Run a command of the host in the task's network namespace (tcpdump, ip, ss), as root."""
        return self.run(*self.in_network(task, *command), timeout_s=timeout_s)

    def in_network(self, task: Task, *command: str) -> list[str]:
        """The command line that runs a command in the task's network namespace."""
        asked = self.run(*self.docker_at(task), "inspect", "--format", "{{.State.Pid}}", task.container)
        pid = asked.out.strip()
        return ["nsenter", f"--net=/proc/{pid}/ns/net", *command]

    def logs(self, service: str, tail: int = 1000) -> str:
        """What the tasks of a service printed, stdout and stderr, oldest task first.

        Container by container: `docker service logs` of 20.10 may wait for ever after a task was killed.
        """
        told = [
            self.run(*self.docker_at(task), "logs", "--tail", str(tail), task.container)
            for task in self.tasks(service)
            if task.container
        ]
        return "".join(done.out + done.err for done in told if done.code == 0)

    def outside_saw(self) -> list[dict]:
        """Every arrival in the outside world so far (tests/e2e/world.py)."""
        return [json.loads(line) for line in self._seen.read_text().splitlines()]
