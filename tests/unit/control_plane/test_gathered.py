"""What replicas hold in parts, put together."""

from control_plane.gathered import all_flows, all_sidecars


def row(task, state="SYNCED", revision=1, replica="a"):
    return {"service": "shop/api", "task": task, "state": state, "revision": revision, "replica": replica}


def test_a_sidecar_that_moved_is_shown_where_it_is_connected():
    left, here = row("t", "DISCONNECTED"), row("t", replica="b")
    assert all_sidecars([[left], [here]]) == all_sidecars([[here], [left]]) == [here]


def test_of_two_connections_the_one_with_the_newer_revision_lives():
    broken, lives = row("t", revision=4), row("t", "PENDING", revision=5, replica="b")
    assert all_sidecars([[broken, row("s")], [lives]]) == [row("s"), lives]


def flows(since_s, watched_s, *rows, rules=(), now_s=100.0):
    callee = {"service": "shop/api", "since_s": since_s, "watched_s": watched_s, "lost": 1}
    listed = [
        {
            "source": s,
            "port": 80,
            "method": "GET",
            "path": "/",
            "requests": n,
            "first_s": first,
            "last_s": last,
        }
        for s, n, first, last in rows
    ]
    told = [{"policy": "p", "rule": r, "requests": n, "last_s": last} for r, n, last in rules]
    return {"now_s": now_s, "since_s": since_s, "callees": [{**callee, "flows": listed}], "rules": told}


def test_requests_are_summed_and_moments_are_the_widest():
    found = all_flows(
        [flows(0.0, 40.0, ("w", 2, 1.0, 5.0)), flows(50.0, 30.0, ("w", 3, 60.0, 70.0), ("x", 1, 61.0, 61.0))]
    )
    [callee] = found["callees"]
    assert (callee["since_s"], callee["watched_s"], callee["lost"]) == (0.0, 70.0, 2)
    assert [(f["source"], f["requests"], f["first_s"], f["last_s"]) for f in callee["flows"]] == [
        ("w", 5, 1.0, 70.0),
        ("x", 1, 61.0, 61.0),
    ]


def test_two_who_watch_side_by_side_watch_no_longer_than_there_was_time():
    [callee] = all_flows([flows(0.0, 90.0), flows(0.0, 90.0)])["callees"]
    assert callee["watched_s"] == 100.0


def test_rules_are_used_when_one_replica_saw_it_and_watched_since_all_of_them_look():
    found = all_flows(
        [flows(0.0, 1.0, rules=[("r", 1, 9.0)]), flows(60.0, 1.0, rules=[("r", 2, 7.0), ("s", 1, 61.0)])]
    )
    assert found["since_s"] == 60.0
    assert [(r["rule"], r["requests"], r["last_s"]) for r in found["rules"]] == [
        ("r", 3, 9.0),
        ("s", 1, 61.0),
    ]


def test_one_replica_tells_the_same_alone():
    alone = flows(0.0, 40.0, ("w", 2, 1.0, 5.0), rules=[("r", 1, 9.0)])
    assert all_flows([alone]) == alone
