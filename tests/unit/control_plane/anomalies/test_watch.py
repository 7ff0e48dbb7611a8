"""What is usual is learned, and what is not is told once, with its figures."""

import random

import pytest

from control_plane.anomalies.baseline import EdgeBaseline, Window
from control_plane.anomalies.paths import read_classes
from control_plane.anomalies.watch import SCAN_PATHS, Watch
from control_plane.telemetry import Telemetry
from meshpy.model.names import ServiceName

API, WEB, CRON = (ServiceName("shop", name) for name in ("api", "web", "cron"))
BOUNDS = [1, 5, 10, 50, 100]


class Mesh:
    """A telemetry that is fed by the window, and the watch over it."""

    def __init__(self, learning_s=120.0):
        self.now = 1_000.0
        self.telemetry = Telemetry()
        self.watch = Watch(self.telemetry, learning_s, clock=lambda: self.now)

    async def window(self, requests=100, errors=0, denied=0, counts=None, caller=WEB):
        """Ten seconds of `caller` → api."""
        self.now += 10
        self.tell(requests, errors, denied, counts, caller)
        await self.watch.look(self.now)

    def tell(self, requests=100, errors=0, denied=0, counts=None, caller=WEB, callee=API):
        counts = counts or [0, requests, 0, 0, 0, 0]
        record = {
            "direction": "outbound", "source": str(caller), "destination": str(callee), "protocol": "http",
            "mtls": True, "requests": requests, "success": requests - errors - denied,
            "responses": {"200": requests - errors}, "denied": {"p": denied} if denied else {},
            "latency_ms": {"bounds": BOUNDS, "counts": counts},
        }  # fmt: skip
        if requests:
            self.telemetry.record(caller, [record], self.now)

    async def learned(self):
        for _ in range(14):
            await self.window()
        return self

    @property
    def kinds(self):
        return [str(event.kind) for event in self.watch.events.after(0)]


async def test_while_it_learns_everything_is_usual():
    mesh = Mesh()
    for number in range(11):
        await mesh.window(10 * number, errors=number, denied=number)
    mesh.watch.take_paths(API, {"classes": [["GET", "/x", "shop/web", 200]]})
    assert mesh.kinds == []
    assert mesh.watch.summary()["path_classes"] == 1


@pytest.mark.parametrize(
    ("unusual", "kind", "windows"),
    [
        ({"errors": 30}, "error_shift", 3),
        ({"counts": [0, 40, 0, 0, 60, 0]}, "latency_shift", 3),
        ({"denied": 40}, "denied_burst", 1),
        ({"requests": 900}, "rate_shift", 3),
        ({"requests": 0}, "silent_service", 6),
    ],
)
async def test_what_lasts_is_told_once_with_figures_and_closed_when_it_is_over(unusual, kind, windows):
    mesh = await Mesh().learned()
    for number in range(windows + 2):
        await mesh.window(**unusual)
        told = [event for event in mesh.watch.events.after(0) if event.kind == kind]
        assert len(told) == (number + 1 >= windows)
    (event,) = told
    assert {"expected", "observed", "seconds"} <= event.evidence.keys()
    assert event.until_s is None
    for _ in range(2):
        await mesh.window()
    assert event.until_s is not None
    assert mesh.watch.events.open_counts()[kind] == 0


async def test_a_hiccup_is_not_told():
    mesh = await Mesh().learned()
    for _ in range(2):
        await mesh.window(errors=30)
    await mesh.window()
    assert mesh.kinds == []


async def test_a_caller_that_never_called_is_told_and_whether_it_was_ever_seen():
    mesh = await Mesh().learned()
    await mesh.window(caller=CRON)
    await mesh.window(caller=CRON)
    (event,) = mesh.watch.events.after(0)
    assert (event.kind, dict(event.subject)["source"]) == ("new_identity", "shop/cron")
    assert event.evidence["requests"] == 100


async def test_new_classes_of_paths_are_told_and_a_scan_is_one_event():
    mesh = await Mesh().learned()
    mesh.watch.take_paths(API, {"classes": [["GET", "/items", "shop/web", 200]]})
    mesh.watch.take_paths(API, {"classes": [["GET", "/items", "shop/web", 200]]})
    (event,) = mesh.watch.events.after(0)
    assert (event.kind, event.evidence) == ("new_path_class", {"source": "shop/web", "status": 200})
    for number in range(300):
        mesh.watch.take_paths(API, {"classes": [["GET", f"/scan-{number}-x", "", 404]]})
    assert len(mesh.watch.events.after(0)) == SCAN_PATHS + 1
    assert "a scan?" in mesh.watch.events.after(0)[-1].text


async def test_ordinary_noise_raises_nothing():
    """Poisson arrivals, two percent of failures, a long tail of latency: six hours of one edge."""
    draw = random.Random(7)
    baseline, told = EdgeBaseline(), []
    for number in range(6 * 360):
        n = sum(draw.random() < 0.01 for _ in range(20_000)) if number % 9 == 0 else draw.randint(160, 240)
        errors = sum(draw.random() < 0.02 for _ in range(n))
        slow = sum(draw.random() < 0.04 for _ in range(n))
        window = Window(n, errors, 0, (1.0, 5.0, 10.0), (0, n - slow, slow, 0))
        told += baseline.see(window, learns=number < 12)
    assert told == []


@pytest.mark.parametrize(
    "value", [None, 7, [7], [["GET"]], [["GET", "/x", "s", "200"]], [["GET", "x" * 999, "s", 1]]]
)
def test_malformed_classes_are_passed_over(value):
    assert list(read_classes(value)) == []


async def test_a_hundred_thousand_distinct_paths_and_callers_stay_bounded():
    mesh = await Mesh().learned()
    for number in range(100_000):
        mesh.watch.take_paths(API, {"classes": [["GET", f"/p{number}", "", 404]]})
    assert mesh.watch.paths.count() <= 500
    assert mesh.watch.paths.overflow >= 99_000
    assert len(mesh.watch.events.after(0)) <= SCAN_PATHS + 1


SLOW = [0, 20, 0, 0, 80, 0]


async def _windows(mesh, number, slow, of=5):
    """Windows of some callers, the first so many of them slow."""
    for _ in range(number):
        mesh.now += 10
        for index in range(of):
            counts = SLOW if index < slow else None
            mesh.tell(counts=counts, caller=ServiceName("shop", f"caller-{index}"))
        await mesh.watch.look(mesh.now)


async def test_a_machine_that_is_slow_is_one_event_and_a_slow_service_is_told_by_name():
    mesh = Mesh()
    await _windows(mesh, 14, slow=0)
    await _windows(mesh, 3, slow=5)
    [event] = mesh.watch.events.after(0)
    assert (str(event.kind), event.subject, event.evidence["observed"]) == ("mesh_slow", {}, 5)
    await _windows(mesh, 1, slow=2)  # not all edges end in the same window
    await _windows(mesh, 8, slow=0)
    assert mesh.kinds == ["mesh_slow"]
    assert event.until_s is not None
    await _windows(mesh, 3, slow=2)
    assert mesh.kinds == ["mesh_slow", "latency_shift", "latency_shift"]


CHAIN = ("loadgen", "web", "api", "catalog")


async def _chain(mesh, number, *slow_pct):
    """Windows of a chain of calls, so many percent of each edge's requests slower than nearly all are."""
    for _ in range(number):
        mesh.now += 10
        for source, destination, slow in zip(CHAIN, CHAIN[1:], slow_pct, strict=False):
            counts = [0, 2 * (100 - slow), 0, 0, 2 * slow, 0]
            callee = ServiceName("shop", destination)
            mesh.tell(200, counts=counts, caller=ServiceName("shop", source), callee=callee)
        await mesh.watch.look(mesh.now)


@pytest.mark.parametrize(
    ("slow_pct", "told"),
    [
        ((40, 15, 12), []),  # a machine that is loaded: the first waits for all
        ((40, 15, 0), ["web"]),
        ((12, 15, 40), ["catalog"]),  # who waits for nobody is told, and those that wait for it are not
        ((40, 15, 40), ["catalog"]),
        ((40, 40, 40), [None]),
    ],
)
async def test_of_a_chain_of_calls_that_is_slower_as_a_whole_only_its_end_is_told(slow_pct, told):
    mesh = Mesh()
    await _chain(mesh, 14, 1, 1, 1)
    await _chain(mesh, 5, *slow_pct)
    await _chain(mesh, 2, 30, 1, 1)  # not all end in the same window
    found = [event.subject.get("destination") for event in mesh.watch.events.after(0)]
    assert found == [each and f"shop/{each}" for each in told]


async def test_of_two_edges_each_is_told_by_name():
    mesh = Mesh()
    await _windows(mesh, 14, slow=0, of=2)
    await _windows(mesh, 3, slow=2, of=2)
    assert mesh.kinds == ["latency_shift", "latency_shift"]


async def test_who_asks_again_is_told_what_is_new():
    """Of an event that goes on, or ended, too."""
    mesh = await Mesh().learned()
    for _ in range(3):
        await mesh.window(errors=50)
    since = mesh.now
    [event] = mesh.watch.events.after(0, changed_s=since)
    await mesh.window(errors=60)
    assert mesh.watch.events.after(0, changed_s=since + 1) == [event]
    assert mesh.watch.events.after(0, changed_s=mesh.now + 1) == []
    for _ in range(3):
        await mesh.window()
    [ended] = mesh.watch.events.after(0, changed_s=since + 15)
    assert ended.until_s is not None
