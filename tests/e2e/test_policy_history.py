"""From apply to enforced on every sidecar, and that at every instant one revision or the other decided.

Two rules that exclude each other: under the one `/hist-a` is denied, under the other `/hist-b`. So the answer
to each request tells which one judged it, and an instant at which neither was in force would let `/hist-a`
pass before `/hist-b` is denied (or the other way round), which the checker finds.
"""

import time

import pytest

from tests.helpers.history import Seen, gaps, settled_after
from tests.helpers.mesh import Mesh

pytestmark = pytest.mark.docker

ROUNDS, RATE, EVERY_S = 12, 60, 1.2
WITHIN_S = 2.0
RULE = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: history}
spec:
  selector: {matchLabels: {app: api}}
  action: DENY
  rules: [{to: [{operation: {paths: ["/hist-%s"]}}]}]
"""


def test_one_revision_or_the_other_is_in_force_at_every_instant(shop: Mesh):
    """Apply to enforced takes 2 s, all but one: the machine is shared; no request was judged by neither."""
    operator, web = shop.operator, shop.app("web")
    shop.apply(RULE % "a")
    changes, enforced = [], []
    with (
        shop.load(web, "GET", "http://api:8080/hist-a", rate=RATE) as load_a,
        shop.load(web, "GET", "http://api:8080/hist-b", rate=RATE) as load_b,
    ):
        for number in range(ROUNDS):
            time.sleep(EVERY_S)
            documents = [{"name": "history.yaml", "text": RULE % "ba"[number % 2]}]
            begun = time.time()
            answer = operator.call("PATCH", "/v1/policies", {"documents": documents})
            waited = operator.call("GET", f"/v1/revisions/{answer['revision']}/wait?timeout_s=10")
            assert waited["enforced"], waited
            changes.append(begun)
            enforced.append(time.time() - begun)
        time.sleep(EVERY_S)
        counted = {"a": load_a.result(), "b": load_b.result()}
    # Denied on `/hist-a`, or served on `/hist-b`: judged by rule 1, which denies a; else by rule 2.
    seen = []
    for path, each in counted.items():
        for begin, end, status in each.moments:
            assert status in (403, 404), each.failures[:3]
            seen.append(Seen(begin, end, 1 if (status == 403) == (path == "a") else 2))
    effects = []
    for begun, end, new in zip(changes, [*changes[1:], float("inf")], [2, 1] * ROUNDS, strict=False):
        # What was under way at the next change may have been judged by that one: it counts there.
        window = [each for each in seen if begun - EVERY_S / 2 <= each.begin and each.end < end]
        assert {each.revision for each in window} == {1, 2}, "the history misses the change"
        assert gaps(window, 3 - new, new) == [], (begun, new)
        effects.append(settled_after(window, begun, new))
    print("apply to enforced on every sidecar, s:", [round(each, 2) for each in enforced])
    print("apply to the first request from which on all are judged anew, s:", [round(e, 2) for e in effects])
    assert sorted(enforced)[-2] <= WITHIN_S
    assert sorted(effects)[-2] <= WITHIN_S
    page = operator.call("GET", "/v1/sidecars?limit=1000")
    newest = operator.call("GET", "/v1/policies")["revision"]
    assert {row["revision"] for row in page["sidecars"] if row["state"] == "SYNCED"} == {newest}
