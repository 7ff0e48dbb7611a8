"""A diff that would judge more classes than it may tells what it found, and that it left something."""

from meshpy.analysis.diff import diff
from tests.helpers.policies import document
from tests.helpers.random_policies import compiled

HEADERS = [f"x-{letter}" for letter in "abcdef"]
WHEN = ", ".join(f"{{key: 'request.headers[{name}]', values: [y]}}" for name in HEADERS)
A = "AuthorizationPolicy"
ON_ALL = f"selector: {{matchLabels: {{app: api}}}}\naction: DENY\nrules: [{{when: [{WHEN}]}}]"
MANY = document(A, ON_ALL, "many")
FEW = document(A, "selector: {matchLabels: {app: redis}}\naction: DENY\nrules: [{}]", "few")


def test_small_flows_are_compared_whole_and_large_ones_as_far_as_it_goes():
    whole = diff(compiled([]), compiled([MANY, FEW]))
    assert whole.undetermined == ()
    told = []
    some = diff(compiled([]), compiled([MANY, FEW]), most=8, progress=lambda *so_far: told.append(so_far))
    assert {change.after for change in whole.changes} >= {change.after for change in some.changes}
    assert some.undetermined
    assert not some.is_empty
    assert all(str(item).endswith("(policy diff --classes)") for item in some.undetermined)
    assert told[-1][1] <= 8


def test_without_a_class_left_every_flow_is_told():
    found = diff(compiled([]), compiled([FEW]), most=0)
    assert (found.changes, found.is_empty) == ((), False)


def test_what_decides_nothing_makes_no_classes():
    audit = MANY.replace("action: DENY", "action: AUDIT").replace("name: many", "name: audit")
    dry = MANY.replace("name: many", "name: dry, annotations: {istio.io/dry-run: 'true'}")
    log = document(
        "NetworkPolicy", "selector: app == 'api'\ningress: [{action: Log}, {action: Allow}]", "log"
    )
    quiet = log.replace("{action: Log}, ", "")
    found = diff(compiled([quiet]), compiled([audit, dry, log]))
    assert (found.changes, found.classes) == ((), found.flows)
    closed = document("NetworkPolicy", "selector: app == 'api'\ningress: [{action: Log}]", "log")
    assert diff(compiled([]), compiled([closed])).changes
