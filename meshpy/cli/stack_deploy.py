"""One deployment of one stack: ports that move, sidecars, policies, apps; and back again if it fails."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshpy.cli.converge import NotRunningError, Wait, standing
from meshpy.cli.docker import Docker, DockerError
from meshpy.cli.engine_api import EngineApi
from meshpy.cli.hashed import drop_old, with_hashed_names
from meshpy.cli.progress import Progress
from meshpy.cli.stack_policies import put_in_force
from meshpy.cli.stack_state import StackState, update_service
from meshpy.cli.trust import ca_config
from meshpy.client import Operator
from meshpy.errors import MeshpyError
from meshpy.inject import Injected, only_sidecars, without_sidecars
from meshpy.policy import Document

__all__ = ["Deployment", "are_apps_first", "services_behind", "until_in_mesh"]

LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Deployment:
    """Args:
    folder: of the stack file; docker runs in it, as relative paths are meant from there.
    timeout_s: for each wait.
    """

    docker: Docker
    engine: EngineApi
    operator: Operator
    stack: str
    folder: Path
    timeout_s: float
    progress: Progress

    def run(
        self, injected: Injected, policies: Sequence[Document], *, wait: bool, rollback: bool
    ) -> int | None:
        """Deploy, and wait until the mesh serves the stack.

        Returns:
            The revision of the stack's own policies, None when they did not change.

        Raises:
            DockerError: it does not run; the message says why, and what was done about it.
        """
        before = StackState.read(self.engine, self.stack)
        revision_before = int(self.operator.call("GET", "/v1/policies")["revision"])
        try:
            return self._run(injected, policies, before, wait=wait)
        except (MeshpyError, KeyboardInterrupt) as error:
            if wait and rollback and before.services:
                told = self._back(before, revision_before)
            elif before.services:
                told = "the stack was left as it is now (--no-rollback)"
            else:
                told = f"there was no such stack before: `docker stack rm {self.stack}` removes what was made"
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            raise DockerError(f"{self.stack} was not deployed: {reason}\n{told}") from error

    def _run(
        self, injected: Injected, policies: Sequence[Document], before: StackState, *, wait: bool
    ) -> int | None:
        ca = ca_config(self.engine, self.docker, self.operator)
        hashed = with_hashed_names(injected.text, self.stack, self.folder, ca_config=ca)
        waiting = Wait(self.engine, self.stack, before.services, self.timeout_s, self.progress)
        sidecars = {f"{self.stack}_{name}" for name in injected.report.sidecars}
        if are_apps_first(before.services, is_permissive=injected.report.permissive):
            self._stack_deploy(without_sidecars(hashed.text))
            if wait:
                there = {each["Spec"]["Name"] for each in self.engine.of_stack("services", self.stack)}
                waiting.until_running(there - sidecars)
        else:
            if not injected.report.permissive:
                self._free_ports(injected, before)
            self._stack_deploy(only_sidecars(hashed.text))
            if wait:
                waiting.until_running(sidecars)
        revision = put_in_force(self.operator, self.stack, policies)
        if revision is not None:
            self.progress.say(f"  √ policies of the stack file: revision {revision}")
        self._stack_deploy(hashed.text)
        if wait:
            waiting.until_running()
            names = list(injected.report.join_secrets)
            until_in_mesh(self.engine, self.operator, self.stack, names, self.timeout_s)
            drop_old(self.engine, self.stack, hashed)
        return revision

    def _stack_deploy(self, text: str) -> None:
        words = ("stack", "deploy", "--resolve-image", "never", "-c", "-", self.stack)
        self.docker.run(*words, stdin=text, cwd=self.folder)

    def _free_ports(self, injected: Injected, before: StackState) -> None:
        """Published ports move from a running app to its sidecar; one service at a time may hold them."""
        for key in injected.report.join_secrets:
            app = before.services.get(f"{self.stack}_{key}")
            ports = (app["Spec"].get("EndpointSpec") or {}).get("Ports") if app else None
            if app is None or not ports:
                continue
            numbers = ", ".join(str(port.get("PublishedPort", port["TargetPort"])) for port in ports)
            self.progress.say(f"  {key}: port {numbers} moves to its sidecar, and is closed until that runs")
            endpoint = {**app["Spec"]["EndpointSpec"], "Ports": []}
            update_service(self.engine, app, {**app["Spec"], "EndpointSpec": endpoint})

    def _back(self, before: StackState, revision: int) -> str:
        """Set the stack and its policies back, and say what that took."""
        self.progress.say(f"{self.stack}: it does not come to run; setting it back")
        try:
            failed = StackState.read(self.engine, self.stack).services
            restored = before.restore(self.engine)
            Wait(self.engine, self.stack, failed, self.timeout_s, self.progress).until_running()
        except MeshpyError as error:
            return f"and setting it back failed too: {error}"
        told = f"the stack is as it was before: {', '.join(restored.set_back) or 'nothing'} set back"
        told += f", {', '.join(restored.removed)} removed" if restored.removed else ""
        told += f"; left: {', '.join(restored.left)}" if restored.left else ""
        return f"{told}; {self._policies_back(revision)}"

    def _policies_back(self, revision: int) -> str:
        try:
            now = self.operator.call("GET", "/v1/policies")
            if now["revision"] == revision:
                return "policies did not change"
            if now["revision"] != revision + 1 or not revision:
                return f"policies stand at revision {now['revision']}: see `meshpy history`"
            message = f"?message=deployment%20of%20{self.stack}%20failed"
            made = self.operator.call("POST", f"/v1/revisions/{revision}/rollback{message}")
        except MeshpyError as error:
            return f"the policies could not be set back: {error}"
        return f"policies are those of revision {revision} again (revision {made['revision']})"


def are_apps_first(before: Mapping[str, Mapping[str, Any]], *, is_permissive: bool) -> bool:
    """Whether apps must be in their new place before sidecars are, so that no caller is without a callee.

    On the way in, a sidecar that answers to its app's name on an old network must find the app behind it; on
    the way out of permissive, it must stay there until the last caller has left.
    """
    labels = [each["Spec"].get("Labels") or {} for each in before.values()]
    was_permissive = any("meshpy.permissive" in each for each in labels)
    was_meshed = any("meshpy.workload" in each for each in labels)
    return bool(before) and (not was_meshed if is_permissive else was_permissive)


def until_in_mesh(
    engine: EngineApi, operator: Operator, stack: str, services: Sequence[str], timeout_s: float
) -> None:
    """Wait until every running sidecar is known to its callers: a task is not yet a route.

    Raises:
        NotRunningError: it took too long; the message names the services.
        ApiError: there is no control plane to ask.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        rows = {s["Spec"]["Name"]: s for s in engine.get("/services", {"status": "true"}) or ()}
        wanted = {
            f"{stack}/{name}": _running(row)
            for name in services
            if (row := rows.get(f"{stack}_{name}-sidecar"))
        }
        with_app = {f"{stack}/{name}" for name in services if _running(rows.get(f"{stack}_{name}"))}
        behind = services_behind(operator.call("GET", "/v1/status"), wanted, with_app)
        if not behind:
            return
        if time.monotonic() > deadline:
            raise NotRunningError(
                f"not in the mesh after {timeout_s:.0f} s: {', '.join(behind)}; see `meshpy status`"
            )
        time.sleep(LOOK_S)


def _running(row: Mapping[str, Any] | None) -> int:
    return int(standing(row).partition("/")[0]) if row is not None else 0


def services_behind(
    status: Mapping[str, Any], wanted: Mapping[str, int], with_app: Collection[str] = ()
) -> list[str]:
    """Services of which not every sidecar is in sync and an endpoint, or has not found its app; and callers.

    Args:
        status: `GET /v1/status`.
        wanted: how many sidecars of each service run.
        with_app: services whose app runs; engines make its name known some time after that.
    """
    known = {each["name"]: each for each in status["services"]}
    unsynced = {each["service"] for each in status["sidecars"] if each["state"] != "SYNCED"}
    unsynced |= {
        each["service"]
        for each in status["sidecars"]
        if each.get("has_app") is False and each["service"] in with_app and each["state"] == "SYNCED"
    }
    told = {each["service"] for each in status["sidecars"] if each["state"] == "PENDING"}
    return [
        *(f"{name} (a caller)" for name in sorted(told - wanted.keys())),
    ] + [
        name
        for name, count in wanted.items()
        if name in unsynced or name not in known or known[name]["endpoints"] < count
    ]
