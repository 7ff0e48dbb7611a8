"""Waiting until the services of a stack run as they should, and seeing early that they will not."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshpy.cli.docker import DockerError
from meshpy.cli.engine_api import STACK, EngineApi, filters
from meshpy.cli.progress import Progress

__all__ = ["NotRunningError", "Wait", "has_begun", "standing", "trouble_of"]

LOOK_S = 0.5
BEGIN_S = 10.0
"""An update shows itself within milliseconds; a busy manager is given this long."""
REJECTED = 3
"""A node refuses a task for reasons that seldom go away: no such image, no such mount."""
STOPPED = ("paused", "rollback_started", "rollback_paused", "rollback_completed")

Record = Mapping[str, Any]


class NotRunningError(DockerError):
    """Services do not run as they should; the message names them with the last error of their tasks."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Args:
    before: the services as they were before the change, by full name.
    """

    engine: EngineApi
    stack: str
    before: Mapping[str, Record]
    timeout_s: float
    progress: Progress

    def until_running(self, only: Collection[str] | None = None) -> None:
        """Wait for these services (full names), or for all of the stack.

        Raises:
            NotRunningError: it took too long, or it is plain that waiting will not help.
        """
        begun_s = time.monotonic()
        while True:
            services = self._services(only)
            paused = [each for each in services if _state(each) == "paused" and self._has_stopped(each)]
            tasks = self._tasks() if paused or not all(map(_is_complete, services)) else ()
            waited_s = time.monotonic() - begun_s
            waiting = [each for each in services if not self._is_settled(each, tasks, waited_s)]
            shown = {_name(each): standing(each, tasks) for each in services}
            self.progress.show(shown, set(map(_name, waiting)))
            if services and not waiting:
                for each in paused:
                    why = f"{_message(each)}; every task of it runs as it should now"
                    self.progress.say(f"  {_name(each)}: {why}")
                return
            tasks = tasks or (self._tasks() if waiting else ())
            hopeless = [each for each in waiting if self._is_hopeless(each, tasks)]
            if hopeless or time.monotonic() - begun_s > self.timeout_s:
                raise NotRunningError(self._why(hopeless or waiting, tasks, bool(hopeless)))
            time.sleep(LOOK_S)

    def _services(self, only: Collection[str] | None) -> list[Record]:
        query = filters(label=f"{STACK}={self.stack}") | {"status": "true"}
        found = self.engine.get("/services", query) or ()
        return [each for each in found if only is None or _name(each) in only]

    def _tasks(self) -> Sequence[Record]:
        return self.engine.get("/tasks", filters(label=f"{STACK}={self.stack}")) or ()

    def _is_settled(self, service: Record, tasks: Sequence[Record], waited_s: float) -> bool:
        if not (_is_complete(service) or _has_ended(service, tasks)) or _state(service) == "updating":
            return False
        if self._has_stopped(service):
            return _is_all_new(service, tasks)
        return waited_s > BEGIN_S or has_begun(service, self.before.get(_name(service)))

    def _has_stopped(self, service: Record) -> bool:
        """Whether its update was given up, and this one, not an earlier one."""
        before = self.before.get(_name(service)) or {}
        return _state(service) in STOPPED and _started(service) != _started(before)

    def _is_hopeless(self, service: Record, tasks: Sequence[Record]) -> bool:
        if self._has_stopped(service) and not _is_all_new(service, tasks):
            return True
        mine = [each for each in tasks if each["ServiceID"] == service["ID"] and _is_of(each, service)]
        rejected = [each for each in mine if each["Status"]["State"] == "rejected"]
        return len(rejected) >= REJECTED and not any(each["Status"]["State"] == "running" for each in mine)

    def _why(self, services: Sequence[Record], tasks: Sequence[Record], is_hopeless: bool) -> str:
        told = "; ".join(
            f"{_name(each)} ({standing(each, tasks)}): "
            f"{trouble_of(each, tasks) or 'its tasks are not running yet'}"
            for each in services
        )
        return told if is_hopeless else f"not running after {self.timeout_s:.0f} s: {told}"


def _is_all_new(service: Record, tasks: Sequence[Record]) -> bool:
    """Whether a paused update has nothing left to do: no task of the spec before it is meant to run.

    Docker pauses an update (`failure_action: pause`, the default) when one task ends early, and lets that
    task be started again. A service whose app waits for its database by failing once is then as it should
    be, while one of several replicas that was never reached will stay what it was.
    """
    if _state(service) != "paused":
        return False
    meant = [
        each
        for each in tasks
        if each["ServiceID"] == service["ID"] and each.get("DesiredState") in ("ready", "running")
    ]
    return bool(meant or _has_ended(service, tasks)) and all(_is_new(each, service) for each in meant)


def _is_new(task: Record, service: Record) -> bool:
    """Whether a task is of the very template that the service has now."""
    task_spec, wanted = task["Spec"], service["Spec"]["TaskTemplate"]
    is_same_container = task_spec.get("ContainerSpec") == wanted.get("ContainerSpec")
    return bool(is_same_container and task_spec.get("ForceUpdate", 0) == wanted.get("ForceUpdate", 0))


def _has_ended(service: Record, tasks: Sequence[Record]) -> bool:
    """Whether what need not go on (restart condition `none` or `on-failure`: a migration) has done its work.

    Each of its places must have a task that ended well or still runs; the engine then says 0/1 for ever.
    """
    if service["Spec"]["TaskTemplate"].get("RestartPolicy", {}).get("Condition", "any") == "any":
        return False
    good = {
        each.get("Slot") or each.get("NodeID")
        for each in tasks
        if each["ServiceID"] == service["ID"]
        and each["Status"]["State"] in ("complete", "running")
        and _is_new(each, service)
    }
    return not _job(service) and len(good) >= max(1, _wanted(service))


def trouble_of(service: Record, tasks: Sequence[Record]) -> str:
    """The newest error of a service's tasks, and why an update stopped."""
    mine = [each for each in tasks if each["ServiceID"] == service["ID"] and each["Status"].get("Err")]
    newest = max(mine, key=lambda each: str(each["Status"]["Timestamp"]), default=None)
    message = _message(service) if _state(service) in STOPPED else ""
    return "; ".join(filter(None, (newest["Status"]["Err"] if newest else "", message)))


def has_begun(service: Record, before: Record | None) -> bool:
    """Whether an update that must come has come: the engine starts it a moment after it was asked to."""
    if before is None or _job(service) or not _wanted(service):
        return True
    if service["Spec"]["TaskTemplate"] == before["Spec"]["TaskTemplate"]:
        return True
    return _started(service) != _started(before)


def standing(service: Record, tasks: Sequence[Record] = ()) -> str:
    """`2/3`; of a job, and of what ended well and need not go on, `1/1 done`."""
    if _job(service):
        return f"{_status(service).get('CompletedTasks', 0)}/{_completions(service)} done"
    if not _is_complete(service) and _has_ended(service, tasks):
        return f"{_wanted(service)}/{_wanted(service)} done"
    return f"{_status(service).get('RunningTasks', 0)}/{_wanted(service)}"


def _is_complete(service: Record) -> bool:
    if _job(service):
        return int(_status(service).get("CompletedTasks", 0)) >= _completions(service)
    return int(_status(service).get("RunningTasks", 0)) >= _wanted(service)


def _is_of(task: Record, service: Record) -> bool:
    """Whether a task came from the spec that the service has now."""
    image = task["Spec"].get("ContainerSpec", {}).get("Image")
    return bool(image == service["Spec"]["TaskTemplate"].get("ContainerSpec", {}).get("Image"))


def _job(service: Record) -> Record | None:
    mode: Record = service["Spec"]["Mode"]
    found: Record | None = mode.get("ReplicatedJob") if "ReplicatedJob" in mode else mode.get("GlobalJob")
    return {} if found is None and "GlobalJob" in mode else found


def _completions(service: Record) -> int:
    job = service["Spec"]["Mode"].get("ReplicatedJob") or {}
    return int(job.get("TotalCompletions") or job.get("MaxConcurrent") or _wanted(service))


def _status(service: Record) -> Record:
    return service.get("ServiceStatus") or {}


def _wanted(service: Record) -> int:
    return int(_status(service).get("DesiredTasks", 0))


def _name(service: Record) -> str:
    return str(service["Spec"]["Name"])


def _state(service: Record) -> str:
    return str((service.get("UpdateStatus") or {}).get("State", ""))


def _message(service: Record) -> str:
    return str((service.get("UpdateStatus") or {}).get("Message", ""))


def _started(service: Record) -> str:
    return str((service.get("UpdateStatus") or {}).get("StartedAt", ""))
