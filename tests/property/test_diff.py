"""Soundness of the diff: nothing changes outside of its classes, and in each of them something does.

MESHPY_DIFF_PAIRS and MESHPY_DIFF_REQUESTS ask for more than a test run does; MESHPY_DIFF_FIRST is the seed of
the first pair. A pair may have millions of classes, which takes minutes; those of a test run have few.
"""

import collections
import os

import pytest

from meshpy.analysis.diff import diff, kind_of
from meshpy.analysis.flows import flows
from meshpy.engine.claims import auth_of
from meshpy.engine.explain import Source, explain
from meshpy.engine.prepared import Prepared
from meshpy.engine.request import Request
from meshpy.model.names import ServiceName
from tests.helpers.random_policies import Dice, compiled

PAIRS = int(os.environ.get("MESHPY_DIFF_PAIRS", "6"))
FIRST = int(os.environ.get("MESHPY_DIFF_FIRST", "40"))
REQUESTS = int(os.environ.get("MESHPY_DIFF_REQUESTS", "300"))
COUNTED = collections.Counter()
AUTHORITIES = [
    "catalog",
    "catalog:8080",
    "api",
    "api:8080",
    "api.shop",
    "web",
    "nobody",
    "tasks.api",
    "redis",
]


def key(flow):
    return flow.caller, flow.host, flow.port


@pytest.mark.parametrize("seed", range(FIRST, FIRST + PAIRS))
def test_the_diff_is_sound_and_every_class_has_its_witness(seed):
    dice = Dice(seed)
    texts = dice.documents()
    old, new = compiled(texts), compiled(dice.changed(texts))
    found = diff(old, new)
    assert_nothing_changes_outside(found, old, new, dice)
    for change in found.changes:
        if "other identity" not in change.sources[0]:  # whom nobody here can be asked for
            assert kind_of(*asked(old, new, change.witness)) is change.kind, change


@pytest.mark.parametrize("seed", range(4 * PAIRS))
def test_the_diff_is_sound_where_paths_are_rewritten(seed):
    dice = Dice(seed)
    old, new = (compiled(texts) for texts in dice.rewriting())
    assert_nothing_changes_outside(diff(old, new), old, new, dice)


def assert_nothing_changes_outside(found, old, new, dice):
    deltas = {}
    for delta in found.deltas:
        deltas.setdefault(key(delta.flow), []).append(delta)
        assert all(kind_of(*cell.answer) is not None for cell in delta.cells)
    doubtful = {(item.source, item.destination, item.port) for item in found.undetermined}
    every = list(flows(Prepared(old, with_steps=False), Prepared(new, with_steps=False)))
    spaces = {}
    judged = 0
    for _ in range(20 * REQUESTS):
        if judged >= REQUESTS:
            break
        number = dice.random.randrange(len(every))
        flow = every[number]
        if number not in spaces:
            spaces[number] = flow.space()
        request = dice.request(dice.one(AUTHORITIES))
        if not flow.is_opaque and spaces[number].find(request) is None:
            continue  # this authority leads elsewhere
        judged += 1
        changed = kind_of(flow.old(request), flow.new(request)) is not None
        COUNTED.update(requests=1, changed=changed)
        if changed:
            inside = any(flow.is_opaque or delta.has(request) for delta in deltas.get(key(flow), ()))
            is_told = inside or (flow.caller.label, flow.host, flow.port) in doubtful
            assert is_told, (flow.caller, flow.host, request, request.headers)
    COUNTED.update(pairs=1, classes=found.classes, changes=len(found.changes), undetermined=len(doubtful))


def asked(old, new, told):
    """The witness as a user would ask for it: `explain` on both revisions."""
    source = Source(None if told.source == "outside" else ServiceName.parse(told.source), told.source_ip)
    path, _, query = told.path.partition("?")
    headers = {"host": [told.authority], **{name: list(values) for name, values in told.headers.items()}}
    auth = auth_of(told.claims) if told.claims is not None else None
    request = Request(told.method, path, query, told.authority, "http", headers, auth)
    return [explain(side, source, told.destination, told.port, request) for side in (old, new)]


def test_the_pairs_were_worth_asking():
    """Some requests changed, most did not; with `-s` the numbers of a big run are seen."""
    if not COUNTED["changed"]:  # the pairs were asked by other workers
        test_the_diff_is_sound_and_every_class_has_its_witness(FIRST)
    print(dict(COUNTED))
    assert 0 < COUNTED["changed"] < COUNTED["requests"]


def test_a_revision_does_not_differ_from_itself():
    for seed in range(5):
        texts = Dice(seed).documents()
        assert diff(compiled(texts), compiled(texts)).is_empty
