"""The flow log: sums by kind of request, time that was watched, bounds, and what outlives a restart."""

import json

from control_plane.flows import KEEP_EVERY_S, MAX_PATHS, FlowLog
from meshpy.model.names import ServiceName

API = ServiceName("shop", "api")


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


def seen(*rows, rules=(), lost=0):
    return {"type": "seen", "flows": [list(row) for row in rows], "rules": list(rules), "lost": lost}


def test_counts_add_up_and_times_are_of_the_first_and_the_last():
    clock = Clock()
    log = FlowLog(clock=clock)
    log.record(API, seen(("shop/web", 8080, "GET", "/a", 3)))
    clock.now_s += 5
    log.record(API, seen(("shop/web", 8080, "GET", "/a", 2), ("", 8080, "GET", "/", 1)))
    (callee,) = log.flows()
    assert [(f["source"], f["path"], f["requests"], f["first_s"], f["last_s"]) for f in callee["flows"]] == [
        ("", "/", 1, 1005.0, 1005.0),
        ("shop/web", "/a", 5, 1000.0, 1005.0),
    ]


def test_silence_is_not_time_that_was_watched():
    clock = Clock()
    log = FlowLog(clock=clock)
    for pause_s in (0, 5, 5, 3600, 5):
        clock.now_s += pause_s
        log.record(API, seen())
    assert log.flows()[0]["watched_s"] == 15.0


def test_many_paths_become_templates_and_then_are_lost():
    log = FlowLog(clock=Clock())
    rows = [("shop/web", 8080, "GET", f"/products/{n}", 1) for n in range(MAX_PATHS * 3)]
    for row in rows:
        log.record(API, seen(row))
    (flow,) = log.flows()[0]["flows"]
    assert (flow["path"], flow["requests"]) == ("/products/{*}", len(rows))
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [a + b for a in letters for b in letters][: MAX_PATHS + 30]
    for word in words:
        log.record(API, seen(("shop/web", 8080, "POST", f"/{word}", 2)))
    callee = log.flows()[0]
    assert (len(callee["flows"]), callee["lost"]) == (1 + MAX_PATHS, 60)


def test_rules_are_known_by_their_last_decision_and_observers_decide_nothing():
    clock = Clock()
    log = FlowLog(clock=clock)
    rule = ["allow", "AuthorizationPolicy shop/p", "rules[0]", True, 3]
    staged = ["pending", "AuthorizationPolicy shop/q", "rules[0]", False, 3]
    log.record(API, seen(rules=[rule, staged]))
    clock.now_s = 2000.0
    log.record(API, seen(rules=[rule]))
    assert log.rules() == [
        {"policy": "AuthorizationPolicy shop/p", "rule": "rules[0]", "requests": 6, "last_s": 2000.0}
    ]


def test_what_is_no_report_is_dropped_and_counted():
    log = FlowLog(clock=Clock())
    for bad in (
        {"flows": "x"},
        {"flows": [[1, 2, 3]]},
        seen(("shop/web", 8080, "GET", "/a\n", 1)),
        seen(("shop/web", "8080", "GET", "/a", 1)),
        seen(("shop/web", 8080, "GET", "/a", -1)),
        seen(lost=True),
        {"rules": [["deny", 5, "", False, 1]]},
    ):
        log.record(API, bad)
    assert log.dropped == 7
    assert log.flows()[0]["flows"] == []


async def test_evidence_outlives_a_restart_and_a_torn_file_is_none(tmp_path):
    import asyncio

    file = tmp_path / "flows.json"
    log = FlowLog(file, Clock())
    log.record(API, seen(("shop/web", 8080, "GET", "/a", 3), rules=[["deny", "P", "r", False, 1]]))
    running = asyncio.ensure_future(log.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert KEEP_EVERY_S > 1  # so it was the end that wrote it
    again = FlowLog(file, Clock())
    assert (again.flows(), again.rules(), again.since_s) == (log.flows(), log.rules(), log.since_s)
    for torn in ('{"format": 1, "callees"', json.dumps({"format": 2}), "[]"):
        file.write_text(torn)
        assert FlowLog(file, Clock()).flows() == []
