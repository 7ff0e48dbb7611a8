"""A mesh on a Swarm: the `meshpy` command, requests from inside containers, probes of their networks."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from tests.helpers.swarm import Done, Engine, EngineError, Task

ROOT = Path(__file__).parents[2]
STACK = "default"
# This kernel has neither IP_VS nor ESP everywhere the tests run.
INJECT = ("--endpoint-mode", "dnsrr", "--no-encrypt", "--image", "meshpy-proxy:dev")

FETCH = """
import http.client, json, sys, time, urllib.parse
method, url, headers, body, timeout_s = sys.argv[1:6]
parts = urllib.parse.urlsplit(url)
begin = time.monotonic()
connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=float(timeout_s))
connection.request(method, (parts.path or "/") + ("?" + parts.query if parts.query else ""),
                   body=body or None, headers=json.loads(headers))
answer = connection.getresponse()
text = answer.read().decode()
fields = {name.lower(): value for name, value in answer.getheaders()}
print(json.dumps([answer.status, fields, text, time.monotonic() - begin]))
"""

# Each request on time whatever became of those before; it ends when its standard input does. What the
# answers were is kept with the moments, so that a failure can be laid beside what happened then.
LOAD = """
import asyncio, collections, json, sys, time, aiohttp
method, url, body, rate, seconds = sys.argv[1:4] + [float(word) for word in sys.argv[4:6]]
counts, failures, moments = collections.Counter(), [], []
async def one(session):
    begin = time.time()
    try:
        async with session.request(method, url, data=body or None) as answer:
            text = await answer.text()
            counts[str(answer.status)] += 1
            moments.append((begin, time.time(), answer.status))
            if answer.status >= 400:
                failures.append((begin, answer.status, dict(answer.headers), text[:200]))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        counts[type(error).__name__] += 1
        moments.append((begin, time.time(), 0))
        failures.append((begin, repr(error)))
async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, stopped.set)
    timeout = aiohttp.ClientTimeout(total=30)
    connector = aiohttp.TCPConnector(limit=64)
    session = aiohttp.ClientSession(timeout=timeout, connector=connector)
    async with session, asyncio.TaskGroup() as group:
        print("begun", flush=True)
        begin, turn = time.monotonic(), 0
        while not stopped.is_set() and turn < rate * seconds:
            group.create_task(one(session))
            turn += 1
            await asyncio.sleep(max(0.0, begin + turn / rate - time.monotonic()))
asyncio.run(main())
print(json.dumps({"counts": counts, "failures": failures[:20], "moments": moments}))
"""


@contextmanager
def capture(within: Sequence[str], *markers: str) -> Iterator[dict]:
    """Run tests/e2e/capture.py by the command `within`; the result is there when the block has ended."""
    command = [*within, sys.executable, "-m", "tests.e2e.capture", *markers]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    seen: dict[str, Any] = {}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "capturing\n":
                raise EngineError(f"no capture: {process.communicate(timeout=30)}")
            yield seen
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    if process.returncode != 0:
        raise EngineError(f"the capture failed: {err}")
    seen |= json.loads(out)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an app got for one request."""

    status: int
    headers: dict[str, str]
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Counted:
    """What became of a load: answers by status (or kind of error), the first failures, every moment."""

    counts: dict[str, int]
    failures: list
    moments: list[tuple[float, float, int]]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


class Load:
    """A load that runs in an app container while the test does something else; stop it by `result`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        first = process.stdout.readline()
        if first != "begun\n":
            raise EngineError(f"the load did not begin: {first}{process.communicate(timeout=30)}")

    def result(self, timeout_s: float = 90) -> Counted:
        """End it, wait for the last answers and count; it must have lasted until now."""
        if self._process.poll() is not None:
            raise EngineError(f"the load ended too early: {self._process.communicate(timeout=30)}")
        out, err = self._process.communicate(timeout=timeout_s)
        if self._process.returncode != 0:
            raise EngineError(f"the load failed: {err}")
        told = json.loads(out)
        return Counted(told["counts"], told["failures"], [tuple(each) for each in told["moments"]])

    def close(self) -> None:
        """Leave nothing behind, whatever the test came to."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate(timeout=30)


class Mesh:
    """The mesh of one engine; the operator's context is in `folder`."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.customers: dict[str, float] = {}  # what the shop's own customers counted
        self.env = os.environ | {"DOCKER_HOST": engine.host, "MESHPY_CONTEXT": str(folder / "context.json")}

    def run(self, *arguments: str, stdin: str = "", timeout_s: float = 240) -> Done:
        """Run `meshpy …` as an operator does."""
        command = [str(Path(sys.executable).with_name("meshpy")), *arguments]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, stdin: str = "", timeout_s: float = 240) -> str:
        """Run `meshpy …`, which must exit with 0, and return its output."""
        done = self.run(*arguments, stdin=stdin, timeout_s=timeout_s)
        if done.code != 0:
            raise EngineError(f"meshpy {' '.join(arguments)}: exit {done.code}\n{done.out}{done.err}")
        return done.out

    @property
    def operator(self) -> Operator:
        """The operator API."""
        return Operator(Context.load(self.env))

    def status(self) -> Any:
        """`GET /v1/status`."""
        return self.operator.call("GET", "/v1/status")

    def apply(self, text: str) -> None:
        """Put policies in force, everywhere."""
        self.ok("apply", "-f", "-", stdin=text)

    def set_policies(self, *files: Path, namespace: str = STACK) -> None:
        """Have these files, and nothing else, in force everywhere; documents without one get `namespace`."""
        documents = [{"name": file.name, "text": file.read_text()} for file in files]
        answer = self.operator.call(
            "PUT", "/v1/policies", {"documents": documents, "default_namespace": namespace}
        )
        waited = self.operator.call("GET", f"/v1/revisions/{answer['revision']}/wait?timeout_s=20")
        assert waited["enforced"], waited

    def sidecar(self, service: str) -> Task:
        """The one running sidecar task of a service of the stack."""
        return self.engine.task(f"{STACK}_{service}-sidecar")

    def app(self, service: str) -> Task:
        """The one running task of a service of the stack."""
        return self.engine.task(f"{STACK}_{service}")

    def fetch(
        self,
        task: Task,
        url: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: str = "",
        timeout_s: float = 10,
    ) -> Answer:
        """One request from inside a container."""
        words = (method, url, json.dumps(headers or {}), body, str(timeout_s))
        done = self.engine.python(task, FETCH, *words, timeout_s=timeout_s + 20)
        if done.code != 0:
            raise EngineError(f"{method} {url} from {task.service}: {done.err.strip().splitlines()[-1:]}")
        return Answer(*json.loads(done.out))

    @contextmanager
    def load(
        self,
        task: Task,
        method: str,
        url: str,
        body: str = "",
        *,
        rate: float = 50,
        at_most_s: float = 240,
        is_fresh: bool = False,
    ) -> Iterator[Load]:
        """Send `rate` requests per second from inside a container of the shop, while the block runs.

        Args:
            is_fresh: each request looks the name up and connects for itself.
        """
        script = LOAD.replace("(limit=64)", "(limit=64, force_close=True, use_dns_cache=False)")
        command = [*self.engine.docker_at(task), "exec", "-i", task.container, "python", "-c"]
        command.append(script if is_fresh else LOAD)
        command += [method, url, body]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen([*command, str(rate), str(at_most_s)], env=self.env, text=True, **pipes)
        load = Load(process)
        try:
            yield load
        finally:
            load.close()

    def probe(self, task: Task, *arguments: str, timeout_s: float = 40) -> Any:
        """Run tests/e2e/probe.py in the network namespace of a task; it prints JSON."""
        command = (sys.executable, "-m", "tests.e2e.probe", *arguments)
        done = self.engine.in_network_of(task, *command, timeout_s=timeout_s)
        if done.code != 0:
            raise EngineError(f"probe {arguments[0]} at {task.service}: {done.err[-2000:]}")
        return json.loads(done.out)

    def capture(self, task: Task, *markers: str) -> AbstractContextManager[dict]:
        """Record the network namespace of a task; the result is there when the block has ended."""
        return capture(self.engine.in_network(task), *markers)

    def join_token(self, service: str) -> str:
        """A token that is right for a service of the stack."""
        answer = self.operator.call("POST", "/v1/join-tokens", {"service": f"{STACK}/{service}"})
        return answer["token"]

    def access_log(self, service: str, since: datetime | None = None) -> list[dict]:
        """The access log of a service's sidecars: of the last thousands of exchanges those begun `since`."""
        lines = self.engine.logs(f"{STACK}_{service}-sidecar", 10_000).splitlines()
        read = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in read if since is None or line["start_time"] >= since.isoformat()[:23]]

    def describe(self) -> str:
        """What a failure should say: sidecars that are not in sync, their logs, tasks that ended badly."""
        parts = []
        try:
            odd = [each for each in self.status()["sidecars"] if each["state"] != "SYNCED"]
        except MeshpyError as error:
            odd, parts = [], [f"no status: {error}"]
        parts += [f"{each['service']} {each['task']} {each['state']} {each['reason']}" for each in odd]
        for service in sorted({each["service"] for each in odd}):
            parts += [f"--- {service}", _words(self.engine.logs(f"{service.replace('/', '_')}-sidecar", 300))]
        parts += ["--- control plane", _words(self.engine.logs("mesh-system_control-plane", 200))]
        failed = [task for task in self.engine.tasks() if task.error or task.state in {"failed", "rejected"}]
        parts += [
            f"{task.service} {task.id} {task.state} on {task.node}: {task.error}" for task in failed[-15:]
        ]
        return "\n".join(parts)


def _words(log: str, lines: int = 25) -> str:
    """The end of a log without the access log."""
    return "\n".join([line for line in log.splitlines() if not line.startswith("{")][-lines:])
