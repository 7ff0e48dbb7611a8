"""What was learned outlives a restart of the control plane."""

import json

import pytest

from control_plane.anomalies.kept import MAX_AGE_S, BaselineFile
from control_plane.anomalies.watch import FORGET_S, SETTLE_S, Watch
from control_plane.telemetry import Telemetry
from meshpy.model.names import ServiceName

API, WEB, CRON = (ServiceName("shop", name) for name in ("api", "web", "cron"))
LEARNING_S = 120.0


class Mesh:
    """A control plane's watch over web → api, with a file, that can be started again."""

    def __init__(self, file):
        self.file, self.now = file, 1_000.0
        self.start()

    def start(self):
        self.telemetry = Telemetry()
        self.watch = Watch(self.telemetry, LEARNING_S, clock=lambda: self.now)
        self.kept = BaselineFile(self.file, self.watch, clock=lambda: self.now)
        return self.kept.resume()

    def restart(self, after_s=5.0):
        self.kept._write(self.watch.state())
        self.now += after_s
        return self.start()

    async def windows(self, number, *, caller=WEB, requests=100, errors=0):
        for _ in range(number):
            self.now += 10
            record = {
                "direction": "outbound", "source": str(caller), "destination": str(API), "protocol": "http",
                "mtls": True, "requests": requests, "success": requests - errors,
                "responses": {"200": requests - errors, "500": errors},
                "latency_ms": {"bounds": [1, 5], "counts": [0, requests, 0]},
            }  # fmt: skip
            self.telemetry.record(caller, [record] if requests else [], self.now)
            await self.watch.look(self.now)

    @property
    def kinds(self):
        return [str(event.kind) for event in self.watch.events.after(0)]


@pytest.fixture
async def learned(tmp_path):
    mesh = Mesh(tmp_path / "baseline.json")
    mesh.watch.take_paths(API, {"classes": [["GET", "/items/{*}", "shop/web", 200]]})
    await mesh.windows(14)
    assert mesh.kinds == []
    return mesh


async def test_a_restart_learns_nothing_anew_and_raises_nothing(learned):
    before = learned.watch.summary()
    assert learned.restart()
    assert learned.watch.summary() == before
    assert not learned.watch.learns
    learned.watch.take_paths(API, {"classes": [["GET", "/items/{*}", "shop/web", 200]]})
    await learned.windows(12)
    assert learned.kinds == []


async def test_what_is_unusual_after_a_restart_is_told_by_what_was_usual_before(learned):
    learned.restart()
    await learned.windows(int(SETTLE_S // 10))
    await learned.windows(1, caller=CRON)
    await learned.windows(3, errors=40)
    learned.watch.take_paths(API, {"classes": [["GET", "/admin", "shop/web", 200]]})
    assert learned.kinds == ["new_identity", "error_shift", "new_path_class"]


async def test_while_sidecars_come_back_nothing_is_judged(learned):
    learned.restart()
    await learned.windows(5, requests=0)
    await learned.windows(4)
    assert learned.kinds == []


async def test_events_are_shown_on_and_numbered_on(learned):
    await learned.windows(4, errors=40)
    assert learned.watch.events.open_counts() == {"error_shift": 1}
    learned.restart()
    (old,) = learned.watch.events.after(0)
    assert (old.number, old.until_s) == (1, learned.now)
    learned.watch.take_paths(API, {"classes": [["GET", "/admin", "shop/web", 200]]})
    assert [event.number for event in learned.watch.events.after(0)] == [1, 2]


async def test_learning_that_was_cut_short_is_finished(tmp_path):
    mesh = Mesh(tmp_path / "baseline.json")
    await mesh.windows(6)
    mesh.restart()
    assert mesh.watch.learns_until - mesh.now == pytest.approx(LEARNING_S - 60)


async def test_an_edge_that_is_long_gone_is_new_again(learned):
    learned.now += FORGET_S + 1
    learned.watch.state()
    await learned.windows(1)
    assert learned.kinds == ["new_edge"]


async def test_a_file_that_is_torn_old_or_not_ours_counts_as_none(learned):
    learned.kept._write(learned.watch.state())
    good = json.loads(learned.file.read_text())
    without = {key: value for key, value in good["watch"].items() if key != "paths"}
    for bad in (
        '{"format": 1, "at_s"',
        "[]",
        json.dumps({**good, "format": 2}),
        json.dumps({**good, "at_s": learned.now - MAX_AGE_S - 1}),
        json.dumps({**good, "watch": without}),
        json.dumps({**good, "watch": {**good["watch"], "edges": [["a", "b", "http", 1]]}}),
    ):
        learned.file.write_text(bad)
        assert not learned.start()
        assert (learned.watch.learns, learned.watch.summary()["edges"]) == (True, 0)


async def test_a_full_mesh_is_a_file_of_some_megabytes(tmp_path):
    mesh = Mesh(tmp_path / "baseline.json")
    for number in range(100):
        classes = [["GET", f"/{'x' * 100}/{n}", "shop/web", 200] for n in range(200)]
        for part in (classes[:100], classes[100:]):
            mesh.watch.take_paths(ServiceName("shop", f"s{number}"), {"classes": part})
    mesh.kept._write(mesh.watch.state())
    assert mesh.watch.paths.count() == 20_000
    assert mesh.file.stat().st_size < 4 * 2**20
