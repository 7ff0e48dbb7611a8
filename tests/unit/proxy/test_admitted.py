"""What a sidecar tells of the requests that it let in: sums since the last message, in bounded memory."""

from proxy.admitted import MAX_CALLERS, MAX_KINDS, MAX_PATH, MAX_ROWS, Admitted


def test_a_message_holds_what_came_since_the_last_one():
    admitted = Admitted()
    web = admitted.of("shop/web", 8080)
    for path in ("/a", "/b", "/a"):
        web.add("GET", path)
    rule = ("allow", "P", "rules[0]", True)
    first = admitted.take({rule: 3})
    assert sorted(first["flows"]) == [["shop/web", 8080, "GET", "/a", 2], ["shop/web", 8080, "GET", "/b", 1]]
    assert (first["rules"], first["lost"]) == ([[*rule, 3]], 0)
    web.add("GET", "/a")
    second = admitted.take({rule: 5})
    assert (second["flows"], second["rules"]) == ([["shop/web", 8080, "GET", "/a", 1]], [[*rule, 2]])
    assert admitted.take({rule: 5}) == {"type": "seen", "flows": [], "rules": [], "lost": 0}


def test_a_connection_that_stays_open_is_in_use():
    admitted = Admitted()
    web = admitted.of("shop/web", 6379)
    web.connect()
    counts = []
    for _ in range(3):
        counts += [row[-1] for row in admitted.take({})["flows"]]
    assert counts == [1, 0, 0]
    web.open -= 1
    assert admitted.take({})["flows"] == []


def test_what_does_not_fit_is_counted_as_lost():
    admitted = Admitted()
    web = admitted.of("shop/web", 8080)
    for number in range(MAX_KINDS + 7):
        web.add("GET", f"/{number}")
    web.add("GET", "/" + "x" * MAX_PATH)
    assert admitted.take({})["lost"] == 8
    for number in range(MAX_CALLERS + 3):
        admitted.of(f"shop/s{number}", 80).add("GET", "/")
    messages = [admitted.take({}) for _ in range(2)]
    assert [message["lost"] for message in messages] == [4, 0]
    assert sum(len(message["flows"]) for message in messages) == MAX_CALLERS - 1


def test_a_message_is_of_bounded_size_and_the_rest_follows():
    admitted = Admitted()
    for caller in range(4):
        for number in range(MAX_KINDS):
            admitted.of(f"shop/s{caller}", 80).add("GET", f"/{number}")
    sizes = [len(admitted.take({})["flows"]) for _ in range(3)]
    assert sizes == [MAX_ROWS, MAX_ROWS, 0]
