"""Exploring by memory: each class that the question tells apart is asked once, and the cells are the same."""

from meshpy.analysis import asked as asking
from meshpy.analysis.probe import Remembered, explore
from meshpy.analysis.space import Space
from meshpy.model.match import Exact, Prefix


def space():
    tests = asking.Tests()
    tests.text("method", (Exact("GET"), Exact("POST"), Exact("PUT")))
    tests.text("path", (Exact("/a"), Prefix("/a/"), Exact("/b")))
    tests.header("x", (Exact("1"), Exact("2")), of_all=False)
    return Space(tests)


def odd(probe):
    """Reads more the more it knows."""
    if probe.method != "GET":
        return probe.method == "PUT"
    if probe.path.startswith("/a"):
        return probe.headers.get("x") == ["1"]
    return probe.path


def even(probe):
    return probe.path == "/b" and probe.method


def test_cells_are_those_of_asking_every_time():
    here, asked = space(), []
    plain = explore(here, lambda probe: (odd(probe), even(probe)))

    def counted(name, ask):
        def answer(probe):
            asked.append(name)
            return ask(probe)

        return Remembered(here, answer)

    first, second = counted("odd", odd), counted("even", even)
    assert explore(here, lambda probe: (first(probe), second(probe))) == plain
    alone = [len(explore(here, ask)) for ask in (odd, even)]
    assert [asked.count("odd"), asked.count("even")] == alone
    assert sum(alone) < 2 * len(plain)
