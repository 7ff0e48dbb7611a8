"""Content hashes in names, what a deployment needs, when a service stands, and the way back."""

import hashlib
import itertools
from pathlib import Path

import pytest

from meshpy.cli.converge import NotRunningError, Wait, has_begun, standing
from meshpy.cli.hashed import with_hashed_names
from meshpy.cli.preflight import what_it_needs
from meshpy.cli.progress import Progress
from meshpy.cli.stack_state import StackState
from meshpy.cli.upgrade import upgraded_spec
from meshpy.inject import InjectOptions, inject
from meshpy.inject.interpolation import interpolate
from meshpy.inject.stackfile import StackFile

STACK = """\
services:
  web:
    image: nginx
    configs: [page, flow]
configs:
  page:
    file: ./page.txt   # the page
  flow: {file: "./${NAME:-flow}.txt"}
  named: {file: ./page.txt, name: mine}
  theirs: {external: true}
  missing: {file: ./none.txt}
secrets:
  key: {file: ./page.txt}
"""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "page.txt").write_text("one")
    (tmp_path / "flow.txt").write_text("two")
    (tmp_path / "other.txt").write_text("three")
    return tmp_path


def test_files_without_a_name_of_their_own_are_named_by_their_content(folder: Path):
    value = StackFile.parse(with_hashed_names(STACK, "shop", folder, {}).text).value
    assert value["configs"]["page"] == {"file": "./page.txt", "name": f"shop_page-{digest('one')}"}
    assert value["configs"]["flow"]["name"] == f"shop_flow-{digest('two')}"
    assert value["secrets"]["key"]["name"] == f"shop_key-{digest('one')}"
    assert value["configs"]["named"]["name"] == "mine"
    assert "name" not in value["configs"]["theirs"] | value["configs"]["missing"]


def test_a_path_with_a_variable_is_read_as_docker_reads_it(folder: Path):
    value = StackFile.parse(with_hashed_names(STACK, "shop", folder, {"NAME": "other"}).text).value
    assert value["configs"]["flow"]["name"] == f"shop_flow-{digest('three')}"


def test_a_long_name_keeps_its_hash_within_the_limit(folder: Path):
    text = STACK.replace("page", "p" * 70).replace("p" * 70 + ".txt", "page.txt")
    names = with_hashed_names(text, "shop", folder, {}).names
    name = names["configs", "p" * 70]
    assert (len(name), name.endswith(f"-{digest('one')}")) == (64, True)


def test_other_roots_than_the_file_knows_are_mounted_by_their_own_name(folder: Path):
    injected = inject("services: {db: {image: redis}}\n", stack="shop").text
    text = with_hashed_names(injected, "shop", folder, {}, ca_config="meshpy-ca-12").text
    assert StackFile.parse(text).value["configs"]["meshpy-ca"]["name"] == "meshpy-ca-12"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("$$a ${A} $A", "$a x x"),
        ("${B:-d} ${B-d} ${E:-d} ${E-d}", "d d d "),
        ("${A:?no} ${B}", "x "),
    ],
)
def test_variables_are_set_as_docker_sets_them(text: str, made: str):
    assert interpolate(text, {"A": "x", "E": ""}) == made


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        (InjectOptions(), {"esp", "ipvs"}),
        (InjectOptions(encrypted=False), {"ipvs"}),
        (InjectOptions(endpoint_mode="dnsrr"), {"esp"}),
        (InjectOptions(endpoint_mode="dnsrr", encrypted=False), set()),
    ],
)
def test_a_preflight_asks_for_what_the_file_counts_on(options: InjectOptions, needs: set[str]):
    text = inject("services: {db: {image: redis}}\n", stack="shop", options=options).text
    assert what_it_needs(text) == needs


def service(name: str, image: str = "one", running: int = 1, wanted: int = 1, **more) -> dict:
    return {
        "ID": f"id-{name}",
        "Version": {"Index": 7},
        "Spec": {
            "Name": name,
            "Mode": {"Replicated": {"Replicas": wanted}},
            "TaskTemplate": {"ContainerSpec": {"Image": image}},
        },
        "ServiceStatus": {"RunningTasks": running, "DesiredTasks": wanted},
        **more,
    }


def task(state: str, image: str = "one", error: str = "") -> dict:
    return {
        "ServiceID": "id-a",
        "Spec": {"ContainerSpec": {"Image": image}},
        "Status": {"State": state, "Err": error, "Timestamp": "2026"},
    }


class Engine:
    """An engine that shows each list in turn, and notes what it is told."""

    def __init__(self, services, tasks=(), others=()) -> None:
        self._services = itertools.chain(services, itertools.repeat(services[-1]))
        self._tasks, self._others = tasks, list(others)
        self.told: list[tuple] = []

    def get(self, path: str, _query: object = None):
        return next(self._services) if path == "/services" else self._tasks

    def of_stack(self, kind: str, _stack: str):
        return next(self._services) if kind == "services" else [o for o in self._others if kind == "networks"]

    def post(self, path: str, body: object, query: object = None) -> None:
        self.told.append(("POST", path, body, query))

    def delete(self, path: str) -> None:
        self.told.append(("DELETE", path))
        self._others = [each for each in self._others if not path.endswith(each["Id"])]


def wait(engine: Engine, before=None, timeout_s: float = 5) -> None:
    Wait(engine, "shop", before or {}, timeout_s, Progress(is_silent=True)).until_running()


def test_a_wait_ends_when_every_service_has_its_tasks():
    wait(Engine([[service("a", running=0)], [service("a")]]))


def test_an_update_that_docker_gave_up_ends_the_wait_with_the_tasks_error():
    given_up = {"State": "paused", "StartedAt": "2", "Message": "update paused"}
    engine = Engine(
        [[service("a", "two", UpdateStatus=given_up)]], [task("rejected", "two", "No such image")]
    )
    with pytest.raises(NotRunningError, match="a \\(1/1\\): No such image; update paused"):
        wait(engine, {"a": service("a", UpdateStatus={"State": "completed", "StartedAt": "1"})})


def test_a_paused_update_whose_task_came_up_after_all_is_no_failure():
    """One task ended early, was started again and runs; of two replicas one was never reached: that fails."""
    paused = {"State": "paused", "StartedAt": "2", "Message": "update paused due to failure"}
    before = {"a": service("a", UpdateStatus={"State": "completed", "StartedAt": "1"})}
    failed = task("failed", "two", "exit 1") | {"DesiredState": "shutdown"}
    again = task("starting", "two") | {"DesiredState": "ready"}
    runs = task("running", "two") | {"DesiredState": "running"}
    late = Engine(
        [[service("a", "two", running=0, UpdateStatus=paused)], [service("a", "two", UpdateStatus=paused)]],
        [failed, again, runs],
    )
    wait(late, before)
    old = task("running", "one") | {"DesiredState": "running"}
    stuck = Engine([[service("a", "two", 2, 2, UpdateStatus=paused)]], [failed, runs, old])
    with pytest.raises(NotRunningError, match="exit 1; update paused due to failure"):
        wait(stuck, before)


def test_an_update_that_was_given_up_long_ago_says_nothing_of_this_one():
    earlier = {"State": "paused", "StartedAt": "1"}
    wait(Engine([[service("a", UpdateStatus=earlier)]]), {"a": service("a", UpdateStatus=earlier)})


def test_tasks_that_no_node_takes_end_the_wait():
    rejected = [task("rejected", error="No such image: x")] * 3
    with pytest.raises(NotRunningError, match="No such image: x"):
        wait(Engine([[service("a", running=0)]], rejected))


def test_an_update_that_must_come_has_not_begun_until_the_engine_says_so():
    before = service("a", "one", UpdateStatus={"State": "completed", "StartedAt": "1"})
    assert not has_begun(service("a", "two", UpdateStatus={"State": "completed", "StartedAt": "1"}), before)
    assert has_begun(service("a", "two", UpdateStatus={"State": "updating", "StartedAt": "2"}), before)
    assert has_begun(service("a", "one"), before)
    assert has_begun(service("b", "one"), None)


def test_a_job_stands_by_what_it_completed():
    job = service("a") | {"ServiceStatus": {"RunningTasks": 0, "DesiredTasks": 0, "CompletedTasks": 1}}
    job["Spec"]["Mode"] = {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 2}}
    assert standing(job) == "1/2 done"


def test_what_need_not_go_on_is_done_when_it_ended_well():
    """A migration with `on-failure`: it failed once, ended well, and is 0/1 to the engine for ever."""
    migration = service("a", running=0)
    migration["Spec"]["TaskTemplate"]["RestartPolicy"] = {"Condition": "on-failure"}
    failed, ended = task("failed", error="exit 1") | {"Slot": 1}, task("complete") | {"Slot": 1}
    wait(Engine([[migration]], [failed, ended]))
    assert standing(migration, [ended]) == "1/1 done"
    of_before = task("complete", "before") | {"Slot": 1}
    for tasks in ([failed], [of_before]):
        with pytest.raises(NotRunningError, match=r"a \(0/1\)"):
            wait(Engine([[migration]], tasks), timeout_s=0.1)
    with pytest.raises(NotRunningError):
        wait(Engine([[service("a", running=0)]], [ended]), timeout_s=0.1)


def test_the_way_back_removes_what_is_new_before_it_sets_back_what_was_changed():
    old = [service("a", "one"), service("same")]
    engine = Engine(
        [[service("a", "two"), service("same"), service("new")]],
        others=[{"Id": "n1", "Name": "kept"}, {"Id": "n2", "Name": "pod"}],
    )
    state = StackState(
        "shop",
        {each["Spec"]["Name"]: each for each in old},
        dict.fromkeys(("networks", "configs", "secrets"), frozenset({"n1"})),
    )
    restored = state.restore(engine)
    assert (restored.set_back, restored.removed, restored.left) == (("a",), ("new",), ())
    assert [each[:2] for each in engine.told] == [
        ("DELETE", "/services/id-new"),
        ("POST", "/services/id-a/update"),
        ("DELETE", "/networks/n2"),
    ]
    assert engine.told[1][2:] == (old[0]["Spec"], {"version": "7"})


def test_an_upgrade_changes_the_image_and_the_roots_and_nothing_else():
    spec = {
        "Name": "a",
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "meshpy-proxy:1",
                "Configs": [
                    {"ConfigName": "meshpy-ca", "ConfigID": "1"},
                    {"ConfigName": "x", "ConfigID": "2"},
                ],
            }
        },
    }
    changed = upgraded_spec(spec, "meshpy-proxy:2", "meshpy-ca-9", "9")
    assert changed["TaskTemplate"]["ContainerSpec"] == {
        "Image": "meshpy-proxy:2",
        "Configs": [{"ConfigName": "meshpy-ca-9", "ConfigID": "9"}, {"ConfigName": "x", "ConfigID": "2"}],
    }
    assert spec["TaskTemplate"]["ContainerSpec"]["Image"] == "meshpy-proxy:1"
